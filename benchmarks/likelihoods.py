"""Held-out likelihoods of finished runs, for the table in README.md.

    genfast train pixelcnn --data binarized-mnist --preset small -o runs/pixelcnn
    python benchmarks/likelihoods.py runs/pixelcnn runs/gated-pixelcnn

Evaluates every run on the test images of the data it was trained on, which training never saw. Then trains each model
for a few steps more, on 2 threads, to say how long its run takes on 2 cores whatever it ran on. Rows of runs that are
not named stay as they are.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness import RESULTS, save

from genfast.likelihoods import bits_per_dim
from genfast.models import MODELS, VAE, ImageConfig, config_from_dict
from genfast.training import DataConfig, Metrics, TrainConfig, evaluate, load_model, train

BURSTS, BURST_STEPS, BURST_LOG = 5, 40, 10  # writing a line takes as long as a step of a small model
IMPORTANCE_SAMPLES = 200  # of the bound that stands for a VAE's likelihood


def preset_of(name: str, config: object) -> str:
    """The preset a model's settings are those of, or "custom"."""
    return next((preset for preset, settings in MODELS[name].presets.items() if settings == config), "custom")


def step_seconds(run: Path) -> float:
    """Median time of a step: a run that was paused or interrupted does not count its pauses."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "learning_rate" in line]  # of training, not of an evaluation
    return statistics.median((b["seconds"] - a["seconds"]) / (b["step"] - a["step"]) for a, b in pairwise(logged))


def step_seconds_on(threads: int, name: str, config: ImageConfig, recipe: TrainConfig, source: DataConfig) -> float:
    """The same for this many threads, in the quietest of a few bursts: other work on the machine only ever adds."""
    burst = replace(recipe, max_steps=BURST_STEPS, num_threads=threads, log_every=BURST_LOG, sample_images=0)
    images = source.load("train")
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / str(i) for i in range(BURSTS)]
        for run in runs:
            train(name, config, images, burst, run)
        return min(step_seconds(run) for run in runs)


def row(run: Path) -> dict[str, Any]:
    described = json.loads((run / "config.json").read_text())
    name, data, recipe = described["model"]["name"], described["data"], TrainConfig(**described["train"])
    config = config_from_dict(name, described["model"]["config"])
    source = DataConfig(data["name"], binarize=data["binarize"], image_size=data["image_size"])
    steps = recipe.total_steps(data["images"])
    model = load_model(run)
    samples = IMPORTANCE_SAMPLES if isinstance(model, VAE) else 1
    metrics = evaluate(model, source.load("test"), samples=samples)
    print(f"{name}: {metrics}", flush=True)
    return {
        "model": name,
        "preset": preset_of(name, config),
        "trained_on": data["name"],
        "steps": steps,
        "batch_size": recipe.batch_size,
        "train_threads": recipe.num_threads,
        "train_seconds": round(steps * step_seconds(run)),
        "train_seconds_on_2_threads": round(steps * step_seconds_on(2, name, config, recipe, source)),
        **metrics.to_dict(),
        **(tightest(metrics, samples) if samples > 1 else {}),
    }


def tightest(metrics: Metrics, samples: int) -> dict[str, Any]:
    """The importance-weighted bound in the place of the ELBO, and which bound it is."""
    mean = metrics.means[f"iwae_{samples}"]
    return {
        "bound": f"IWAE-{samples}",
        "nats_per_image": mean.value,
        "nats_standard_error": mean.standard_error,
        "bits_per_dim": bits_per_dim(mean.value, metrics.image_shape),
        "bits_per_dim_standard_error": bits_per_dim(mean.standard_error, metrics.image_shape),
    }


def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the last results that are not measured anew, each with the machine it was measured on."""
    path = RESULTS / "likelihoods.json"
    if not path.exists():
        return []
    last = json.loads(path.read_text())
    new = {(row["model"], row["preset"], row["trained_on"]) for row in rows}
    old = [row for row in last["rows"] if (row["model"], row["preset"], row["trained_on"]) not in new]
    return [{"machine": last["machine"], **row} for row in old]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = [row(Path(run)) for run in sys.argv[1:]]
    print("wrote", save("likelihoods", rows + kept(rows)))
