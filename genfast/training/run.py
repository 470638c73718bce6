"""The run folder: what was trained, how it went, and pictures of both.

config.json            model, data and training settings, versions
metrics.jsonl          one JSON object a line: training loss, and held-out likelihoods
curve.png              the same as a picture
samples-EPOCH.png      images drawn from the model, if it can draw
reconstructions-EPOCH.png  held-out images and what an autoencoder makes of them
checkpoints/           see genfast.training.checkpoint
classifier/            a run folder of its own: what genfast evaluate compares images by
quality.json, .png     what it found, and the drawn images nearest to training images (quality-NAME: of other images)
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfast.errors import GenfastError
from genfast.training.checkpoint import FORMAT, read_config, versions
from genfast.training.files import sync, write_atomically, write_json
from genfast.training.recipe import FREE_ON_RESUME

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class RunFolder:
    """One training run on disk. ``start`` or ``resume`` it, then ``log`` lines."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics_path = self.path / "metrics.jsonl"
        self._lock = -1  # a descriptor of the folder that holds the lock

    def lock(self) -> None:
        """Keep other processes out while this one trains; the lock ends with the process, however that ends.

        Does nothing where there is no folder yet, no such lock (Windows), or the lock is held here already. Raises
        GenfastError if another process holds it.
        """
        if self._lock >= 0 or fcntl is None or not self.path.is_dir():
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise GenfastError(
                f"Another process is training in {self.path}: wait for it, stop it, or choose another folder."
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Let others in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def start(self, config: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder. Raises GenfastError if it holds something, unless that is a run and ``overwrite`` is set."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            if not (self.path / "config.json").is_file():
                raise GenfastError(f"{self.path} exists and is not a run of genfast train: choose another folder.")
            if not overwrite:
                raise GenfastError(
                    f"{self.path} already holds a run: continue it with --resume, replace it with --overwrite, "
                    "or choose another folder."
                )
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", {"format": FORMAT, **config, "versions": versions()})

    def _clear(self) -> None:
        """Delete what a run writes and nothing else; config.json last, so that a killed deletion can be repeated."""
        for folder in ("checkpoints", "tensorboard", "classifier"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        written = ("samples-*.png", "reconstructions-*.png", "quality.*", "quality-*.*", "curve.png", "metrics.jsonl")
        for pattern in (*written, "config.json"):
            for file in self.path.glob(pattern):
                file.unlink()

    def resume(self, config: Mapping[str, Any]) -> None:
        """Check that the run on disk was started with the same settings, and keep the new ones that are free to change.

        Raises GenfastError naming the first setting that differs.
        """
        if not (self.path / "config.json").is_file():
            raise GenfastError(f"There is no run to resume in {self.path}: leave out --resume to start one.")
        before = read_config(self.path)
        for part in ("model", "data", "train"):
            old, new = _flat(before.get(part)), _flat(json.loads(json.dumps(config[part])))
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) != new.get(name) and not (part == "train" and name in FREE_ON_RESUME):
                    raise GenfastError(
                        f"The run in {self.path} was started with {name} = {old.get(name)!r}, not {new.get(name)!r}: "
                        "resume it with the same settings or start another run."
                    )
        write_json(self.path / "config.json", {"format": FORMAT, **config, "versions": versions()})

    def cut_metrics(self, step: int) -> None:
        """Drop the lines of metrics.jsonl after ``step`` (they will come again), and a last one cut short by a kill."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.metrics_path, lambda path: path.write_text(text, encoding="utf-8"))

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without a last one that was cut short."""
        lines: list[dict[str, Any]] = []
        if self.metrics_path.is_file():
            for text in self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    break
                if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                    break
                lines.append(line)
        return lines

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def sync_metrics(self) -> None:
        """Before a checkpoint: what it will say is logged must be on disk."""
        if self.metrics_path.exists():
            sync(self.metrics_path)

    def draw_curve(self, score: str = "bits_per_dim") -> None:
        """curve.png: one score in training and held out, by step."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        highest = 0.0
        for key, label in ((f"train_{score}", "training"), (f"held_out_{score}", "held out")):
            points = [(line["step"], line[key]) for line in self.metrics() if key in line]
            if points:
                marker = "o" if len(points) < 30 else ""
                axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3)
                # The first steps are far off: the axis shows everything after the first tenth of the run.
                highest = max(highest, *(bits for _, bits in points[len(points) // 10 :]))
        if highest > 0:
            axes.set_ylim(top=highest * 1.02)
            axes.legend()
        axes.set_xlabel("step")
        axes.set_ylabel(score.replace("_", " "))
        axes.grid(alpha=0.3)
        canvas = FigureCanvasAgg(figure)
        write_atomically(self.path / "curve.png", lambda path: canvas.print_png(os.fspath(path)))


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """{"config": {"hidden": 8}} -> {"config.hidden": 8}; anything but an object counts as empty."""
    flat: dict[str, Any] = {}
    for name, value in (values if isinstance(values, dict) else {}).items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
