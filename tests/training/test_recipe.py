from dataclasses import replace

import pytest

from genfast.errors import GenfastError
from genfast.models import MODELS
from genfast.training import RECIPES, DataConfig, TrainConfig
from genfast.training.recipe import FREE_ON_RESUME


def test_every_preset_of_every_model_has_a_recipe():
    assert set(RECIPES) == {(name, preset) for name, entry in MODELS.items() for preset in entry.presets}


def test_learning_rate_climbs_then_falls_to_nearly_zero():
    config = TrainConfig(learning_rate=1.0, warmup_steps=4)
    rates = [config.learning_rate_at(step, 104) for step in range(104)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))
    assert rates[54] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    constant = replace(config, decay="constant", warmup_steps=0)
    assert {constant.learning_rate_at(step, 9) for step in range(20)} == {1.0}


def test_warmup_longer_than_the_run():
    assert TrainConfig(learning_rate=1.0, warmup_steps=100).learning_rate_at(9, 10) == pytest.approx(0.1)


@pytest.mark.parametrize(("images", "steps"), [(64, 2), (95, 2), (96, 3), (5, 1)])
def test_full_batches_only_and_at_least_one(images, steps):
    assert TrainConfig(batch_size=32).steps_per_epoch(images) == steps
    assert TrainConfig(batch_size=32, epochs=7).total_steps(images) == 7 * steps
    assert TrainConfig(batch_size=32, max_steps=9).total_steps(images) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"ema": 1.0},
        {"epochs": 0},
        {"log_every": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"grad_clip": float("inf")},
    ],
)
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(GenfastError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_free_settings_exist():
    assert {name for name in FREE_ON_RESUME if not hasattr(TrainConfig(), name)} == set()


def test_data_config_loads():
    digits = DataConfig("digits", binarize="threshold").load("valid")
    assert digits.split == "valid"
    assert digits.levels == 2
