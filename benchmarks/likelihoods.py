"""Held-out likelihoods of finished runs, for the table in README.md.

    genfast train pixelcnn --data binarized-mnist --preset small -o runs/pixelcnn
    python benchmarks/likelihoods.py runs/pixelcnn runs/gated-pixelcnn

Evaluates every run on the test images of the data it was trained on, which training never saw.
"""

import json
import statistics
import sys
from itertools import pairwise
from pathlib import Path

from harness import save

from genfast.models import MODELS, config_from_dict
from genfast.training import DataConfig, evaluate, load_model


def preset_of(name: str, config: object) -> str:
    """The preset a model's settings are those of, or "custom"."""
    return next((preset for preset, settings in MODELS[name].presets.items() if settings == config), "custom")


def training_seconds(logged: list[dict[str, float]]) -> float:
    """Steps times the median time of a step: a run that was paused or interrupted does not count its pauses."""
    lines = [line for line in logged if "train_nats" in line]
    pace = [(b["seconds"] - a["seconds"]) / (b["step"] - a["step"]) for a, b in pairwise(lines)]
    return statistics.median(pace) * lines[-1]["step"]


def row(run: Path) -> dict[str, object]:
    config = json.loads((run / "config.json").read_text())
    name, data, recipe = config["model"]["name"], config["data"], config["train"]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    source = DataConfig(data["name"], binarize=data["binarize"], image_size=data["image_size"])
    metrics = evaluate(load_model(run), source.load("test"))
    print(f"{name}: {metrics}", flush=True)
    return {
        "model": name,
        "preset": preset_of(name, config_from_dict(name, config["model"]["config"])),
        "trained_on": data["name"],
        "epochs": recipe["epochs"],
        "train_threads": recipe["num_threads"],
        "train_seconds": round(training_seconds(logged)),
        **metrics.to_dict(),
    }


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("wrote", save("likelihoods", [row(Path(run)) for run in sys.argv[1:]]))
