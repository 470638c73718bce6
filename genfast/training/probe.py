"""What features learned without labels are worth: accuracy with few labels, against doing without them.

For every number of labels and every seed, which picks the labelled images and the initial weights:

    fine-tuned, pretrained      the whole classifier is trained, from the encoder's weights
    fine-tuned, random          the same from random weights
    linear probe, pretrained    logistic regression on the encoder's codes
    linear probe, random        on the codes of a randomly initialised encoder
    linear probe, PCA           on as many principal components of the pixels
    k-means                     as many clusters of the pixels, each with the commonest label of its labelled images

PCA and k-means see all training images, but like the encoder only the labels of a few. Accuracy is on test images.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import VAE, Autoencoder, Classifier, build_model
from genfast.training.evaluate import evaluate
from genfast.training.features import image_features
from genfast.training.loop import train
from genfast.training.recipe import TrainConfig

METHODS = (
    "fine-tuned, pretrained",
    "fine-tuned, random",
    "linear probe, pretrained",
    "linear probe, random",
    "linear probe, PCA",
    "k-means",
)
BATCH = 50
EPOCHS, FEWEST_STEPS = 20, 300  # of fine-tuning
RECIPE = TrainConfig(
    batch_size=BATCH, learning_rate=1e-3, warmup_steps=20, ema=0.0, eval_every=0, sample_images=0,
    checkpoint_every_seconds=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Accuracies:
    """Test accuracy of one method with one number of labels: one value for every seed."""

    method: str
    labels: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for a single one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0


def probe(
    encoder: Autoencoder | VAE,
    data: ImageSet,
    test: ImageSet,
    labels: Sequence[int],
    seeds: int = 5,
    most_steps: int = 1000,
    report: Callable[[str], None] = lambda line: None,
) -> list[Accuracies]:
    """Every method with every number of labels (0: all of them), over seeds 0 to seeds - 1.

    encoder: pretrained on ``data``, whose labels it has not seen. most_steps: of fine-tuning. Raises GenfastError for
    data without labels, or a model whose encoder is told the label.
    """
    if data.labels is None or test.labels is None:
        raise GenfastError(f"{data.title} has no labels, so features cannot be tried out on it: choose other data.")
    if seeds < 1 or most_steps < 1 or not labels or min(labels) < 0:
        raise GenfastError("A probe needs at least one seed, one step, and numbers of labels of 0 (all) or more.")
    classes = int(data.labels.max()) + 1
    Classifier.from_encoder(encoder, num_classes=classes)  # refuses an encoder that cannot be used
    pixels = {name: d.batch(range(len(d))).flatten(1).float().numpy() for name, d in _both(data, test)}
    fixed = {
        "linear probe, pretrained": {name: image_features(encoder, d) for name, d in _both(data, test)},
        "linear probe, PCA": _principal_components(pixels, encoder.latent),
    }
    clusters = _clusters(pixels, encoder.latent)
    random = [_random_features(encoder, data, test, seed) for seed in range(seeds)]
    results = []
    for count in labels:
        count = min(count or len(data), len(data))
        values: dict[str, list[float]] = {method: [] for method in METHODS}
        for seed in range(seeds):
            chosen = data.subset(count, seed)
            at = _places(chosen, data)
            if seed == 0 or count < len(data):  # with all labels a seed changes nothing here
                known = {
                    method: _linear(of["train"][at], data.labels[at], of["test"], test.labels, seed)
                    for method, of in fixed.items()
                }
                known["k-means"] = _majority(clusters["train"][at], data.labels[at], clusters["test"], test.labels)
            drawn = random[seed]
            known["linear probe, random"] = _linear(
                drawn["train"][at], data.labels[at], drawn["test"], test.labels, seed
            )
            for method, accuracy in known.items():
                values[method].append(accuracy)
            for method, pretrained in (("fine-tuned, pretrained", encoder), ("fine-tuned, random", None)):
                values[method].append(_fine_tune(encoder, pretrained, chosen, test, classes, seed, most_steps))
            said = ", ".join(f"{name} {found[-1]:.4f}" for name, found in values.items())
            report(f"{count} labels, seed {seed}: {said}")
        results += [Accuracies(method, count, tuple(values[method])) for method in METHODS]
    return results


def _places(part: ImageSet, data: ImageSet) -> np.ndarray:
    """Where a part's images are in the data, which may itself be a part of a split.  # int64 [len(part)], rising"""
    if part is data or part.numbers is None:
        return np.arange(len(data))
    numbers = np.arange(len(data)) if data.numbers is None else data.numbers
    return np.flatnonzero(np.isin(numbers, part.numbers))


def _both(data: ImageSet, test: ImageSet) -> list[tuple[str, ImageSet]]:
    return [("train", data), ("test", test)]


def _random_features(encoder: Autoencoder | VAE, data: ImageSet, test: ImageSet, seed: int) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    untrained = type(encoder)(encoder.config).eval()  # type: ignore[arg-type]
    return {name: image_features(untrained, d) for name, d in _both(data, test)}


def _principal_components(pixels: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    from sklearn.decomposition import PCA

    pca = PCA(min(size, *pixels["train"].shape), random_state=0).fit(pixels["train"])
    return {name: pca.transform(values) for name, values in pixels.items()}


def _clusters(pixels: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(min(size, len(pixels["train"])), random_state=0, n_init=3).fit(pixels["train"])
    return {name: kmeans.predict(values) for name, values in pixels.items()}


def _linear(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, seed: int) -> float:
    """Test accuracy of logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(y)) < 2:
        raise GenfastError(f"The {len(y)} labelled images are all of one class: take more labels.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, random_state=seed))
    return float(model.fit(x, y).score(test_x, test_y))


def _majority(clusters: np.ndarray, labels: np.ndarray, test_clusters: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of the commonest label of each cluster; of all labelled images where a cluster has none."""
    label_of = np.full(max(clusters.max(), test_clusters.max()) + 1, np.bincount(labels).argmax())
    for cluster in np.unique(clusters):
        label_of[cluster] = np.bincount(labels[clusters == cluster]).argmax()
    return float((label_of[test_clusters] == test_labels).mean())


def _fine_tune(
    encoder: Autoencoder | VAE,
    pretrained: Autoencoder | VAE | None,
    data: ImageSet,
    test: ImageSet,
    classes: int,
    seed: int,
    most_steps: int,
) -> float:
    """Test accuracy of a classifier of the encoder's size, trained as a whole; by the loop that trains every model."""
    torch.manual_seed(seed)
    start = Classifier.from_encoder(encoder, num_classes=classes)
    if pretrained is None:
        start = build_model("classifier", start.config)  # type: ignore[assignment]
    steps = min(most_steps, max(FEWEST_STEPS, EPOCHS * len(data) // BATCH))
    with tempfile.TemporaryDirectory() as folder:
        recipe = replace(RECIPE, max_steps=steps, seed=seed)
        model = train("classifier", start.config, data, recipe, folder, initial=start).model
    return evaluate(model, test, batch_size=500).means["accuracy"].value
