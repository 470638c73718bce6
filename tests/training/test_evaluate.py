import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import GatedPixelCNN, GatedPixelCNNConfig, PixelCNN
from genfast.training import Metrics, evaluate
from tests.training.conftest import CONDITIONAL, MODEL, toy_images


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_every_image_counts_once_whatever_the_batch(batch_size):
    model, data = PixelCNN(MODEL), toy_images(7)
    nats = -torch.cat([model.log_prob(data.batch([i])) for i in range(7)]).double()
    metrics = evaluate(model, data, batch_size)
    assert metrics.images == 7
    assert metrics.nats == pytest.approx(nats.mean().item(), rel=1e-6)
    assert metrics.standard_error == pytest.approx(nats.std().item() / 7**0.5, rel=1e-4)
    assert metrics.bits_per_dim == pytest.approx(metrics.nats / (20 * math.log(2)))


def test_evaluation_leaves_the_model_in_training_mode():
    model = PixelCNN(MODEL).train()
    evaluate(model, toy_images(2))
    assert model.training


def test_one_image_has_no_standard_error():
    metrics = Metrics.from_scores({"nats": np.array([1.0])}, (1, 1, 1), "x")
    assert math.isnan(metrics.standard_error)
    assert json.loads(json.dumps(metrics.to_dict(), allow_nan=False))["nats_standard_error"] is None


def test_the_title_names_the_binarization():
    assert "binarization" in evaluate(PixelCNN(MODEL), toy_images(2)).title


def test_labels_are_the_condition():
    model, data = GatedPixelCNN(CONDITIONAL), toy_images(5)
    expected = -model.log_prob(data.batch(range(5)), torch.tensor(data.labels)).double().mean().item()
    assert evaluate(model, data, 2).nats == pytest.approx(expected, rel=1e-6)
    other = replace(data, labels=(data.labels + 1) % 3)
    assert evaluate(model, other, 2).nats != pytest.approx(expected, rel=1e-6)


def test_mismatches_are_one_sentence():
    model = PixelCNN(MODEL)
    for data, what in (
        (ImageSet("x", "test", np.zeros((2, 1, 5, 4), np.uint8), 4), "shape"),
        (ImageSet("x", "test", np.zeros((2, 3, 4, 5), np.uint8), 4), "shape"),
        (ImageSet("x", "test", np.zeros((2, 1, 4, 5), np.uint8), 8), "levels"),
    ):
        with pytest.raises(GenfastError, match=what):
            evaluate(model, data)
    conditional = GatedPixelCNN(CONDITIONAL)
    with pytest.raises(GenfastError, match="labels"):
        evaluate(conditional, toy_images(3, labels=False))
    with pytest.raises(GenfastError, match="label 3"):
        evaluate(conditional, replace(toy_images(3), labels=np.array([0, 1, 3])))
    by_vector = GatedPixelCNN(GatedPixelCNNConfig((1, 4, 5), 4, hidden=4, layers=1, head=4, condition_dim=2))
    with pytest.raises(GenfastError, match="vectors"):
        evaluate(by_vector, toy_images(3))


def test_broken_weights_are_reported():
    model = PixelCNN(MODEL)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(GenfastError, match="not a finite number"):
        evaluate(model, toy_images(3))
