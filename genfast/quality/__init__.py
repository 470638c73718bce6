"""How good generated images are, without downloads: measures on feature arrays, and the spaces that features live in.

classifier = genfast.load_model("runs/classifier")
found = assess(images, genfast.data.load("mnist", "test"), [ClassifierSpace(classifier)])
"""

from genfast.quality.assess import COLUMNS, Quality, Scores, SpaceScores, assess, check_count, compare, noise_like
from genfast.quality.classifier import classifier_of
from genfast.quality.copies import Copies, copies
from genfast.quality.distances import nearest
from genfast.quality.frechet import frechet_distance, gaussian_frechet
from genfast.quality.kernel import KernelDistance, kernel_distance
from genfast.quality.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from genfast.quality.modes import Modes, modes
from genfast.quality.spaces import ClassifierSpace, FeatureSpace, InceptionSpace

__all__ = [
    "COLUMNS",
    "ClassifierSpace",
    "Copies",
    "DensityCoverage",
    "FeatureSpace",
    "InceptionSpace",
    "KernelDistance",
    "Modes",
    "PrecisionRecall",
    "Quality",
    "Scores",
    "SpaceScores",
    "assess",
    "check_count",
    "classifier_of",
    "compare",
    "copies",
    "density_coverage",
    "frechet_distance",
    "gaussian_frechet",
    "kernel_distance",
    "modes",
    "nearest",
    "noise_like",
    "precision_recall",
]
