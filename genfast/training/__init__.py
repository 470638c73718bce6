"""Training: settings and presets, the loop, checkpoints, evaluation, pictures."""

from genfast.training.checkpoint import load_model, save_model
from genfast.training.evaluate import evaluate
from genfast.training.loop import TrainResult, train
from genfast.training.metrics import Metrics
from genfast.training.recipe import RECIPES, DataConfig, TrainConfig

__all__ = [
    "RECIPES",
    "DataConfig",
    "Metrics",
    "TrainConfig",
    "TrainResult",
    "evaluate",
    "load_model",
    "save_model",
    "train",
]
