"""``genfast probe``: what the features of a trained encoder are worth."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from genfast.cli.flags import RunFlags, parse
from genfast.errors import GenfastError

if TYPE_CHECKING:
    from genfast.training.probe import Accuracies

DESCRIPTION = """\
Measure what the features of a trained autoencoder or vae are worth with few labels: test accuracy of a linear probe and
of fine-tuning, from the pretrained encoder and from random weights, beside PCA features and k-means clusters. Writes
probe.json, a table (probe.md) and a plot (probe.png) into a folder. The full run for the autoencoder
of MNIST should take some 15 minutes on two quiet cores (an estimate from its parts); --quick takes about a minute.

Example: genfast probe runs/autoencoder -o runs/probe"""


@dataclass(frozen=True)
class ProbeFlags(RunFlags):
    """What to compare."""

    labels: tuple[int, ...] = (100, 1000, 0)
    """Numbers of labelled images (0: all)."""
    seeds: int = 5
    """Repetitions, each with other labelled images and other initial weights."""
    most_steps: int = 1000
    """Steps of fine-tuning at most."""
    quick: bool = False
    """A rehearsal: 100 labels, 2 seeds, 60 steps, 5000 training and 1000 test images."""
    data: str | None = None
    """Data set (default: the one the encoder was trained on)."""
    data_dir: Path | None = None
    """Folder with the data sets (default: as in training, then GENFAST_DATA, then a cache folder)."""
    out: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="FOLDER")] = Path("probe")
    """Folder for the results."""


def main(argv: Sequence[str]) -> None:
    """Compare, and write the table and the plot."""
    flags = parse(ProbeFlags, argv, "genfast probe", DESCRIPTION)
    from genfast.cli.data import run_data
    from genfast.models import VAE, Autoencoder
    from genfast.training.checkpoint import find_checkpoint
    from genfast.training.files import write_atomically, write_json
    from genfast.training.probe import probe

    model = flags.load()
    if not isinstance(model, Autoencoder | VAE):
        raise GenfastError(
            f"A {type(model).__name__} has no features learned without labels: probe an autoencoder or a vae."
        )
    if flags.out.exists() and not flags.out.is_dir():
        raise GenfastError(f"{flags.out} is a file: name a folder for the results.")
    source = run_data(find_checkpoint(flags.run), flags.data, None, None, flags.data_dir)
    data, test = source.load("train"), source.load("test")
    labels, seeds, steps = flags.labels, flags.seeds, flags.most_steps
    if flags.quick:
        labels, seeds, steps = (100,), 2, 60
        data, test = data.subset(5000), test.subset(1000)
    results = probe(model, data, test, labels, seeds, steps, report=lambda line: print(line, flush=True))
    flags.out.mkdir(parents=True, exist_ok=True)
    said = table(results, f"{test.title}, with labels from {data.title}")
    rows = [dataclasses.asdict(row) for row in results]
    write_json(flags.out / "probe.json", {"data": data.title, "test": test.title, "rows": rows})
    write_atomically(flags.out / "probe.md", lambda path: path.write_text(said, encoding="utf-8"))
    write_atomically(flags.out / "probe.png", lambda path: plot(results, path))
    print(f"\n{said}\nwrote {flags.out}/probe.json, probe.md and probe.png")


def table(results: "Sequence[Accuracies]", title: str) -> str:
    """Markdown: a row for each method, a column for each number of labels, and the margin of pretraining."""
    from genfast.training.probe import Accuracies

    counts = list(dict.fromkeys(row.labels for row in results))
    lines = [
        f"Accuracy on {title}. Mean ± standard deviation over {len(results[0].values)} seeds.",
        "",
        f"| | {' | '.join(f'{count} labels' for count in counts)} |",
        f"|---|{'---|' * len(counts)}",
    ]
    found = {(row.method, row.labels): row for row in results}
    for method in dict.fromkeys(row.method for row in results):
        cells = [found[method, count] for count in counts]
        lines.append(f"| {method} | {' | '.join(f'{cell.mean:.2%} ± {cell.spread:.2%}' for cell in cells)} |")
    lines.append("")
    for count in counts:
        one, other = found["fine-tuned, pretrained", count], found["fine-tuned, random", count]
        differences = tuple(a - b for a, b in zip(one.values, other.values, strict=True))
        worth = Accuracies("difference", count, differences)  # seed by seed: the same labels
        lines.append(f"- {count} labels: pretraining is worth {worth.mean:+.2%} ± {worth.spread:.2%} in fine-tuning.")
    return "\n".join(lines) + "\n"


def plot(results: "Sequence[Accuracies]", path: Path) -> None:
    """Accuracy by number of labels, with the spread as bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for method in dict.fromkeys(row.method for row in results):
        rows = [row for row in results if row.method == method]
        style = "-" if "pretrained" in method else "--"
        axes.errorbar(
            [row.labels for row in rows], [row.mean for row in rows], [row.spread for row in rows],
            label=method, marker="o", markersize=4, capsize=3, linestyle=style,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("labelled images")
    axes.set_ylabel("test accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(os.fspath(path))
