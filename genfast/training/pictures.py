"""Pictures of a model in training, of whatever kind its family has."""

from pathlib import Path

import torch

from genfast.data import ImageSet
from genfast.models import ImageModel, Model, PriorPainter, Reconstructor
from genfast.training.evaluate import labels_of


def draw_pictures(model: Model, watched: ImageSet, folder: Path, epoch: int, count: int, seed: int) -> None:
    """Write samples of a model that can draw, and reconstructions of ``count`` watched images by one that decodes."""
    from genfast.sampling import LatentSampler, compile_sampler, save_images, shades
    from genfast.sampling.explore import reconstructions
    from genfast.sampling.pictures import save_grid

    condition = None if model.num_classes is None else torch.arange(count) % model.num_classes
    samples = folder / f"samples-{epoch:04d}.png"
    if isinstance(model, ImageModel):
        save_images(samples, compile_sampler(model).sample(count, seed=seed, condition=condition), model.levels)
    if isinstance(model, PriorPainter):
        save_images(samples, shades(LatentSampler(model).expected(count, seed, condition=condition), model.levels), 256)
    if isinstance(model, Reconstructor):
        chosen = watched.subset(count)
        indices = torch.arange(len(chosen)).numpy()
        device = next(model.parameters()).device
        labels = labels_of(model, chosen, indices)
        pair = reconstructions(model, chosen.batch(indices).to(device), None if labels is None else labels.to(device))
        save_grid(folder / f"reconstructions-{epoch:04d}.png", shades(pair, model.levels), 256, columns=len(chosen))
