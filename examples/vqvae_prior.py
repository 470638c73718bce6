"""A prior over the codes of a VQ-VAE, sampled by genfast.accelerate: a minute or so on a CPU, nothing to download.

A VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) writes an image as a small map of whole numbers, the nearest of K
code vectors at each place. New images need a *prior* over such maps, which is an autoregressive image model whose
"pixels" have K levels; here one given the class. The prior below is written as people write theirs, in plain PyTorch:
it takes int64 codes [B, H, W] and labels [B], and knows nothing of genfast.

    python examples/vqvae_prior.py -o vqvae.png            # one row of new digits for each class
    python examples/vqvae_prior.py --data mnist -o vqvae.png
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genfast
from genfast import data
from genfast.errors import GenfastError
from genfast.sampling import check_path, save_images

CLASSES = 10


class VQVAE(nn.Module):
    """Images in 0 .. 1 <-> maps of codes half as high and wide, or a quarter for images of 16 pixels and more."""

    def __init__(self, size: int, codes: int, hidden: int = 48, width: int = 16) -> None:
        super().__init__()
        halvings = 1 if size < 16 else 2
        down: list[nn.Module] = [nn.Conv2d(1, hidden, 3, padding=1), nn.ReLU()]
        up: list[nn.Module] = [nn.Conv2d(width, hidden, 3, padding=1), nn.ReLU()]
        for _ in range(halvings):
            down += [nn.Conv2d(hidden, hidden, 4, stride=2, padding=1), nn.ReLU()]
            up += [nn.ConvTranspose2d(hidden, hidden, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(hidden, width, 1))
        self.decoder = nn.Sequential(*up, nn.Conv2d(hidden, 1, 3, padding=1))
        self.table = nn.Embedding(codes, width)
        self.code_shape = (size >> halvings, size >> halvings)

    def nearest(self, z: Tensor) -> Tensor:
        """[B, D, H, W] -> codes, int64 [B, H, W]"""
        return torch.cdist(z.movedim(1, -1).flatten(1, 2), self.table.weight[None]).argmin(-1).unflatten(1, z.shape[2:])

    def encode(self, x: Tensor) -> Tensor:
        return self.nearest(self.encoder(x))

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, H, W] -> images in 0 .. 1"""
        return self.decoder(self.table(codes).movedim(-1, 1)).sigmoid()

    def loss(self, x: Tensor) -> Tensor:
        """Reconstruction, and codes and encoder drawn to each other (equation 3), straight through the choice."""
        z = self.encoder(x)
        q = self.table(self.nearest(z)).movedim(-1, 1)
        out = self.decoder(z + (q - z).detach())
        drawn = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        return F.binary_cross_entropy_with_logits(out, x) + drawn

    @torch.no_grad()
    def revive(self, x: Tensor) -> None:
        """Puts code vectors that nobody uses where the encoder's outputs are."""
        z = self.encoder(x).movedim(1, -1).flatten(0, 2)
        used = torch.bincount(self.encode(x).flatten(), minlength=len(self.table.weight))
        dead = (used == 0).nonzero()[:, 0]
        self.table.weight[dead] = z[torch.randint(len(z), (len(dead),))]


class MaskedConv(nn.Conv2d):
    """Rows above and pixels to the left; "B" also the pixel itself. Masks its weights in place, as many do."""

    def __init__(self, kind: str, *args: int, **options: int) -> None:
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight)
        h, w = self.kernel_size
        mask[:, :, h // 2, w // 2 + (kind == "B") :] = 0
        mask[:, :, h // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class Prior(nn.Module):
    """codes int64 [B, H, W], labels int64 [B] -> logits [B, K, H, W]"""

    def __init__(self, codes: int, classes: int, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.table = nn.Embedding(codes, width)
        self.first = MaskedConv("A", width, width, 5, padding=2)
        self.layers = nn.ModuleList(MaskedConv("B", width, 2 * width, 3, padding=1) for _ in range(layers))
        self.labels = nn.ModuleList(nn.Embedding(classes, 2 * width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(layers))
        self.out = nn.Conv2d(width, codes, 1)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        x = self.first(self.table(codes).permute(0, 3, 1, 2))
        for layer, label, norm in zip(self.layers, self.labels, self.norms, strict=True):
            a, b = (layer(norm(x)) + label(labels)[:, :, None, None]).chunk(2, 1)
            x = x + torch.tanh(a) * torch.sigmoid(b)
        return self.out(F.relu(x))


def batches(count: int, steps: int, size: int = 64) -> Iterator[Tensor]:
    """Random indices, every image once before any comes again."""
    order = torch.randperm(count)
    for step in range(steps):
        start = step * size % count
        if start + size > count:
            order, start = torch.randperm(count), 0
        yield order[start : start + size]


def train(vqvae: VQVAE, prior: Prior, images: Tensor, labels: Tensor, steps: int) -> None:
    """First the codes, then the prior over them."""
    optimizer = torch.optim.Adam(vqvae.parameters(), 2e-3)
    for step, at in enumerate(batches(len(images), steps)):
        if step % 50 == 0 and step < steps // 2:
            vqvae.revive(images[at])
        optimizer.zero_grad()
        loss = vqvae.loss(images[at])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        codes = torch.cat([vqvae.encode(part) for part in images.split(256)])
    print(f"VQ-VAE: loss {loss.item():.3f}, {len(codes.unique())} of {len(vqvae.table.weight)} codes in use")
    optimizer = torch.optim.Adam(prior.parameters(), 2e-3)
    for at in batches(len(images), steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(prior(codes[at], labels[at]), codes[at])
        loss.backward()
        optimizer.step()
    print(f"prior: {loss.item():.2f} nats per code, of {torch.tensor(float(len(vqvae.table.weight))).log():.2f}")


def accelerated(prior: Prior, code_shape: tuple[int, int], codes: int) -> genfast.sampling.Sampler:
    """The three lines: a code map is an image of one channel with K levels, which go in as they are."""
    return genfast.accelerate(
        prior, (1, *code_shape), levels=codes, encode=lambda levels: levels[:, 0].long(), condition=torch.tensor([0, 1])
    )


def main(argv: Sequence[str] | None = None) -> Tensor:
    """Trains, samples, decodes, writes a picture. Returns the codes drawn, [n, 1, H, W]."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", choices=["digits", "mnist"])
    parser.add_argument("--codes", type=int, default=300, help="size of the code book")
    parser.add_argument("--steps", type=int, default=600, help="training steps of each of the two networks")
    parser.add_argument("--each", type=int, default=10, help="new images of each class")
    parser.add_argument("-o", "--out", type=Path, default=Path("vqvae.png"))
    flags = parser.parse_args(argv)
    check_path(flags.out)
    torch.manual_seed(0)
    found = data.load(flags.data, "train")
    images = torch.from_numpy(found.images).float() / (found.levels - 1)
    if found.labels is None:
        raise GenfastError(f"{flags.data} has no labels.")
    vqvae, prior = VQVAE(images.shape[-1], flags.codes), Prior(flags.codes, CLASSES)
    train(vqvae, prior, images, torch.from_numpy(found.labels), flags.steps)

    sampler = accelerated(prior, vqvae.code_shape, flags.codes)
    labels = torch.arange(CLASSES).repeat_interleave(flags.each)
    start = time.perf_counter()
    codes = sampler.sample(len(labels), seed=0, condition=labels)
    took = time.perf_counter() - start
    print(f"{len(labels)} code maps {list(codes.shape[1:])} in {took:.3f} s by the {sampler.engine} engine")
    with torch.no_grad():
        drawn = vqvae.decode(codes[:, 0].long())
    save_images(flags.out, (drawn * 255).round().to(torch.uint8), 256)
    print(f"wrote {flags.out}")
    return codes


if __name__ == "__main__":
    main()
