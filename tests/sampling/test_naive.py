"""The naive loop: does it draw from the model's distribution, in the right order, leaving alone what is known?"""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from genfast.errors import GenfastError
from genfast.sampling import naive
from genfast.sampling.noise import uniforms
from genfast.sampling.task import Stats


def test_samples_follow_the_model_s_distribution(tiny: Callable[..., Any]) -> None:
    model = tiny((1, 2, 2), 2, "bernoulli")
    n = 4000
    drawn = naive.sample(model, n, seed=5)
    every = torch.tensor(list(product([0, 1], repeat=4))).view(16, 1, 2, 2)
    model.eval()
    probabilities = model.likelihood.log_prob(model(every), every).detach().exp().double()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    counts = torch.stack([(drawn == image).flatten(1).all(1).sum() for image in every])
    assert float(((counts - n * probabilities) ** 2 / (n * probabilities)).sum()) < 37.7  # 15 degrees, p = 0.001


def test_each_sub_pixel_is_drawn_given_the_ones_before(rgb: Any) -> None:
    """Checked from the outside: the finished image explains itself."""
    images = naive.sample(rgb, 4, seed=1, first=6)
    rgb.eval()
    with torch.no_grad():
        again = rgb.likelihood.draw(rgb(images), uniforms(1, 6, 4, rgb.image_shape))
    assert images.dtype == torch.uint8
    assert images.shape == (4, 3, 3, 4)
    assert torch.equal(again.to(torch.uint8), images)
    assert len(images.unique()) == 5


def test_order_is_raster_then_colour(tiny: Callable[..., Any]) -> None:
    model = tiny((2, 2, 2), 3)
    states = []
    model.register_forward_pre_hook(lambda module, args: states.append(args[0].clone()))
    images = naive.sample(model, 3, seed=2)
    order = [(c, y, x) for y in range(2) for x in range(2) for c in range(2)]
    assert len(states) == len(order)
    for t, state in enumerate(states):
        expected = torch.zeros_like(images)
        for c, y, x in order[:t]:
            expected[:, c, y, x] = images[:, c, y, x]
        assert torch.equal(state, expected)


@pytest.mark.parametrize("per_image", [False, True])
def test_completion(rgb: Any, per_image: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 5, (3, 3, 3, 4), generator=generator)
    known = torch.rand((3, 1, 3, 4) if per_image else (3, 4), generator=generator) < 0.5
    given = images.where(known, 77)  # unknown pixels may hold anything
    out = naive.complete(rgb, given, known, seed=3)
    mask = known.expand(3, 3, 3, 4)
    assert torch.equal(out[mask], images.to(torch.uint8)[mask])
    rgb.eval()
    with torch.no_grad():
        again = rgb.likelihood.draw(rgb(out), uniforms(3, 0, 3, rgb.image_shape)).to(torch.uint8)
    assert torch.equal(out[~mask], again[~mask])
    assert torch.equal(given, images.where(known, 77))  # the caller's tensor is left alone
    assert torch.equal(naive.complete(rgb, out, torch.ones(3, 4, dtype=torch.bool)), out)


def test_known_sub_pixels_cost_nothing(rgb: Any) -> None:
    known = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    known[0, 0, 1], known[1, 0, 1:] = True, True
    stats = Stats()
    naive.complete(rgb, torch.zeros(2, 3, 3, 4, dtype=torch.uint8), known, stats=stats)
    assert stats.passes == len(rgb.seen) == 3 * (12 - 4)  # the middle row is known in both images
    assert (stats.images, stats.image_passes) == (2, 48)
    rgb.seen.clear()
    naive.complete(rgb, torch.zeros(2, 3, 3, 4, dtype=torch.uint8), torch.ones(3, 4, dtype=torch.bool))
    assert rgb.seen == []


def test_an_image_is_the_same_alone_and_in_a_batch(rgb: Any) -> None:
    batch = naive.sample(rgb, 5, seed=4, first=10)
    for k in range(5):
        assert torch.equal(naive.sample(rgb, 1, seed=4, first=10 + k)[0], batch[k])
    assert not torch.equal(naive.sample(rgb, 5, seed=5, first=10), batch)


def test_conditions_reach_the_model(bernoulli: Any) -> None:
    plain = naive.sample(bernoulli, 4)
    labels = naive.sample(bernoulli, 4, condition=torch.tensor([0, 1, 2, 3]))
    vectors = naive.sample(bernoulli, 4, condition=torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(plain, labels)
    assert not torch.equal(plain, vectors)
    assert torch.equal(naive.sample(bernoulli, 1, first=2, condition=torch.tensor([2]))[0], labels[2])


def test_temperature_and_truncation(rgb: Any) -> None:
    greedy = naive.sample(rgb, 2, temperature=0)
    assert torch.equal(greedy[0], greedy[1])
    assert torch.equal(naive.sample(rgb, 2, top_k=1), greedy)
    assert torch.equal(naive.sample(rgb, 2, top_p=1e-9), greedy)
    assert not torch.equal(naive.sample(rgb, 2), greedy)


def test_on_row_shows_the_image_growing(bernoulli: Any) -> None:
    frames: list[torch.Tensor] = []
    known = torch.zeros(4, 5, dtype=torch.bool)
    known[3] = True
    out = naive.complete(bernoulli, torch.ones(2, 1, 4, 5, dtype=torch.uint8), known, on_row=frames.append)
    assert len(frames) == 4
    for y, frame in enumerate(frames):
        assert torch.equal(frame[:, :, : y + 1], out[:, :, : y + 1])
        assert (frame[:, :, y + 1 : 3] == 0).all()
        assert (frame[:, :, 3] == 1).all()


def test_progress_goes_to_stderr(bernoulli: Any, capsys: pytest.CaptureFixture[str]) -> None:
    naive.sample(bernoulli, 1)
    assert capsys.readouterr() == ("", "")
    naive.sample(bernoulli, 1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "20/20" in err


def test_training_flags_come_back(bernoulli: Any) -> None:
    modes: list[tuple[bool, bool]] = []
    bernoulli.register_forward_pre_hook(lambda m, args: modes.append((m.training, torch.is_inference_mode_enabled())))
    bernoulli.train()
    bernoulli.first.eval()  # a frozen part stays frozen
    out = naive.sample(bernoulli, 1)
    assert set(modes) == {(False, True)}
    assert bernoulli.training
    assert bernoulli.dropout.training
    assert not bernoulli.first.training
    assert not out.is_inference()

    def stop(batch: torch.Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        naive.sample(bernoulli, 1, on_row=stop)
    assert bernoulli.training
    assert not torch.is_inference_mode_enabled()
    bernoulli.eval()
    naive.sample(bernoulli, 1)
    assert not bernoulli.training


def test_weights_with_nan_are_refused(bernoulli: Any) -> None:
    with torch.no_grad():
        bernoulli.last.bias.fill_(float("nan"))
    with pytest.raises(GenfastError, match="not a distribution"):
        naive.sample(bernoulli, 1)


IMAGES, KNOWN = torch.zeros(2, 1, 4, 5, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.bool)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"images": IMAGES.float()}, "integer levels"),
    ({"images": IMAGES.numpy()}, "not ndarray"),
    ({"images": IMAGES[:, :, :3]}, r"must have the shape \[B, 1, 4, 5\], not \[2, 1, 3, 5\]"),
    ({"images": IMAGES[0]}, "must have the shape"),
    ({"images": torch.zeros((), dtype=torch.uint8)}, "must have the shape"),
    ({"images": IMAGES[:0]}, "the batch is empty"),
    ({"images": IMAGES + 2, "known": ~KNOWN}, "must hold levels 0 to 1, but they hold 2"),
    ({"images": IMAGES.long() - 1, "known": ~KNOWN}, "but they hold -1"),
    ({"known": KNOWN.int()}, "tensor of booleans"),
    ({"known": None}, "tensor of booleans"),
    ({"known": KNOWN.T}, r"\[4, 5\] or \[2, 1, 4, 5\], not \[5, 4\]"),
    ({"known": KNOWN.expand(3, 1, 4, 5)}, "mask of known pixels must have the shape"),
    ({"seed": -1}, "seed must be"),
    ({"seed": 2**64}, "seed must be"),
    ({"first": 2**64 - 1}, "Images are numbered"),
    ({"temperature": -1.0}, "temperature must be"),
    ({"top_k": 0}, "top_k must be"),
    ({"top_p": 0.0}, "top_p must be"),
    ({"condition": torch.zeros(3, dtype=torch.int64)}, "3 rows for 2 images"),
    ({"condition": torch.tensor(1)}, "no rows for 2 images"),
    ({"condition": 1}, "condition must be a tensor"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD, ids=[s for _, s in BAD])
def test_bad_input_is_refused_before_any_work(bernoulli: Any, change: dict[str, Any], sentence: str) -> None:
    arguments = {"images": IMAGES, "known": KNOWN, **change}
    with pytest.raises(GenfastError, match=sentence):
        naive.complete(bernoulli, **arguments)
    assert bernoulli.seen == []


@pytest.mark.parametrize("n", [0, -1, 1.5, True, None])
def test_bad_numbers_of_images(bernoulli: Any, n: Any) -> None:
    with pytest.raises(GenfastError, match="at least 1"):
        naive.sample(bernoulli, n)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), object(), None])
def test_models_that_cannot_be_sampled(model: Any) -> None:
    with pytest.raises(GenfastError, match="cannot be sampled: it must be an nn.Module"):
        naive.sample(model, 1)
