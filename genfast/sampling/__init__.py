"""Sampling: drawing and completing images, exactly, from uniforms that depend on the image's number alone."""

from genfast.sampling.accelerated import AcceleratedSampler, accelerate
from genfast.sampling.engines import ENGINES
from genfast.sampling.latent import LatentSampler
from genfast.sampling.pictures import check_path, grid, save_images, shades
from genfast.sampling.sampler import Sampler, compile_sampler
from genfast.sampling.task import CausalModel, Stats

__all__ = [
    "ENGINES",
    "AcceleratedSampler",
    "CausalModel",
    "LatentSampler",
    "Sampler",
    "Stats",
    "accelerate",
    "check_path",
    "compile_sampler",
    "grid",
    "save_images",
    "shades",
]
