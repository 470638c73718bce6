"""The tables in README.md and docs/numbers.md, made from benchmarks/results/*.json.

python benchmarks/report.py               writes them between their markers
python benchmarks/report.py FOLDER ...    the same, after results.py took over what genfast bench wrote into the folders
python benchmarks/report.py --check       exits with 1 where these files say anything else (tests/test_readme.py)
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "numbers.md")


def where(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, {machine['instruction_set']}, torch "
        f"{machine['torch']}, commit {machine['commit']}, {machine['date']}"
    )


def span(values: list[float], unit: str = "x") -> str:
    """The smallest, the median and the largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    if unit == "%":
        return f"{low:.0%} - **{middle:.0%}** - {high:.0%}"
    return f"{low:.2f} - **{middle:.2f}** - {high:.2f}"


def masked_conv2d(result: dict[str, Any]) -> str:
    lines = [
        "| filter, mask B | ideal | forward | forward + backward | share of peak, forward |",
        "|---|---|---|---|---|",
    ]
    for k in (3, 5, 7):
        rows = [row for row in result["rows"] if row["kernel"] == k]
        lines.append(
            f"| {k}x{k} | {2 * k * k / (k * k + 1):.2f} | {span([r['forward_median'] for r in rows])} | "
            f"{span([r['step_median'] for r in rows])} | {span([1 / r['forward_of_floor'] for r in rows], '%')} |"
        )
    lines.append("")
    lines.append(
        f"Smallest, **median** and largest of {len(result['rows']) // 3} cases each: 64 and 128 channels, 28x28 and "
        "32x32, batch 16 and 64, contiguous and channels_last, float32; in the smallest also against torch.compile: "
        f"the faster counts. Peak: {result['peak_gflops']:.0f} GFLOP/s of a large matrix product in the same run. "
        f"{where(result['machine'])}."
    )
    return "\n".join(lines)


def lstm(result: dict[str, Any]) -> str:
    lines = [
        "| operator | size | forward | forward + backward | floors, forward | floors, forward + backward |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        times = [
            f"**{row[f'{key}_median']:.1f}** ({row[f'{key}_low']:.1f} - {row[f'{key}_high']:.1f}, "
            f"{row[f'{key}_rival']})"
            for key in ("forward", "step")
        ]
        floors = [f"{row[f'{key}_of_floor']:.1f}" for key in ("forward", "step")]
        size = f"h = {row['hidden']}, {row['side']}x{row['side']}, batch {row['batch']}"
        lines.append(f"| {' | '.join((row['operator'], size, *times, *floors))} |")
    loops = [row for row in result["rows"] if "one tap" not in row["operator"]]  # nn.LSTM's rival has no such loop
    left_out = sum("compiled loop" in row["left_out"] for row in loops)
    lines += [
        "",
        "How many times faster than the fastest rival, which is named: the loop over lines taken by slicing or by "
        "`unbind`, that loop with torch.compile of its step (compiled step), or torch.compile of all of it (compiled "
        f"loop; left out for {left_out} of {len(loops)} sizes, where it did not compile in "
        f"{result['compile_limit']:.0f} s). Median and quartiles of turns in one run. The floor is the recurrent "
        "products as one dense matrix product in the same run, three for forward + backward. "
        f"{where(result['machine'])}.",
    ]
    return "\n".join(lines)


def against_compiled(result: dict[str, Any], heads: list[str], names: list[list[str]], eager: str, what: str) -> str:
    """Rows of forward and forward + backward against torch.compile of an eager formula, and against that."""
    heads = [*heads, "forward", "of eager", "forward + backward", "of eager", "floors"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row, cells in zip(result["rows"], names, strict=True):
        for key in ("forward", "step"):
            compiled = "" if row[f"{key}_rival"] == "the same by torch.compile" else f", {row[f'{key}_rival']}"
            cells += [
                f"**{row[f'{key}_median']:.1f}** ({row[f'{key}_low']:.1f} - {row[f'{key}_high']:.1f}{compiled})",
                f"{row[f'{key}_rivals'][eager]:.1f}",
            ]
        floors = f"{row['forward_of_floor']:.1f}, {row['step_of_floor']:.1f}"
        lines.append(f"| {' | '.join(cells)} | {floors} |")
    lines += [
        "",
        f"Times faster than torch.compile of {what} (where eager is faster still, it counts and is named), and than "
        "that itself: medians, and quartiles of turns in one run, float32. Floors: our time over that of the bytes and "
        f"exponentials alone ({result['copy_gb_per_s']} GB/s, {result['g_exp_per_s']} billion exponentials a second in "
        f"the same run). {where(result['machine'])}.",
    ]
    return "\n".join(lines)


def logistic_mixture(result: dict[str, Any]) -> str:
    names = [[row["case"], str(row["batch"]), row["layout"]] for row in result["rows"]]
    return against_compiled(result, ["likelihood", "batch", "layout"], names, "eager formula", "the eager formula")


def gated_activation(result: dict[str, Any]) -> str:
    names = [
        [f"h = {row['hidden']}, {row['side']}x{row['side']}", str(row["groups"]), str(row["batch"]), row["layout"]]
        for row in result["rows"]
    ]
    eager = "tanh(f) * sigmoid(g)"
    return against_compiled(result, ["size", "colours", "batch", "layout"], names, eager, f"`{eager}`")


def sampling(result: dict[str, Any]) -> str:
    narrow = any("bfloat16_over_float32" in row for row in result["rows"])  # the machine has instructions for it
    heads = ["model", "batch", "sampling, in forward passes", "target", "share of peak", "naive loop / sampling"]
    heads += ["bfloat16 / float32"] * narrow + ["caches"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in result["rows"]:
        low, high = 1 / row["ratio_high"], 1 / row["ratio_low"]
        cells = [
            row["model"],
            str(row["batch"]),
            f"**{row['sampling_over_forward']:.2f}** ({low:.2f} - {high:.2f})",
            f"{row['target']:.1f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['loop_over_sampling']}",
        ]
        cells += [f"{row['bfloat16_over_float32']:.2f}"] if narrow else []
        cells += [f"{row['cache_bytes'] / 1e6:.1f} MB"]
        lines.append(f"| {' | '.join(cells)} |")
    compiling = sorted({f"{row['compile_seconds']:.1f}" for row in result["rows"]}, key=float)
    loop = ""
    if "whole_loop" in result:
        times = result["whole_loop"]["loop_over_sampling"]
        loop = f"The digits preset, drawn to the end by both: {times:.0f} times faster than the loop. "
    lines += [
        "",
        "Time to sample a batch over the time of one plain PyTorch forward pass over it (`F.conv2d`, weights masked "
        "beforehand, the better of two layouts): median and quartiles of turns in one run. Compiled once, in "
        f"{' to '.join(dict.fromkeys((compiling[0], compiling[-1])))} s. {loop}Peak: {result['peak_gflops']} "
        f"GFLOP/s of a large matrix product. {where(result['machine'])}.",
    ]
    return "\n".join(lines)


def training(result: dict[str, Any]) -> str:
    lines = [
        "| model | batch | times faster than | | fused Adam alone | milliseconds | floors |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        times = [
            f"**{row[f'{key}_median']:.2f}** ({row[f'{key}_low']:.2f} - {row[f'{key}_high']:.2f})"
            for key in ("update", "optimizer")
        ]
        cells = (row["model"], str(row["batch"]), row["update_rival"], times[0], times[1])
        spent = f"{1e3 * row['update_ours']:.{0 if row['update_ours'] > 0.01 else 1}f}"
        lines.append(f"| {' | '.join(cells)} | {spent} | {row['update_of_floor']:.1f} |")
    lines += [
        "",
        "A training step, from a batch of levels to updated weights. Plain layers: the same network on "
        "`F.conv2d(x, weight * mask)`, on the loops of the table above and on the eager formula; contiguous weights: "
        "the same layers of PyTorch, not laid out channels_last. Fused Adam: over PyTorch's default, with our layers. "
        "Median and quartiles of turns in one run. The floor is the FLOPs of products and convolutions at "
        f"{result['peak_gflops']:.0f} GFLOP/s. {where(result['machine'])}.",
    ]
    return "\n".join(lines)


def scaling(result: dict[str, Any]) -> str:
    lines = [
        "| size | from | to | drawing, time | drawing, memory | training, time | training, memory |",
        "|---|---|---|---|---|---|---|",
    ]
    curves = result["curves"]
    for axis in dict.fromkeys(curve["axis"] for curve in curves):
        mine = {curve["kind"]: curve for curve in curves if curve["axis"] == axis}
        x = next(iter(mine.values()))["x"]
        cells = [axis, str(x[0]), str(x[-1])]
        for kind in ("drawing", "training"):
            curve = mine[kind]
            low, high = curve["time_exponent_low"], curve["time_exponent_high"]
            cells += [f"**{curve['time_exponent']:.2f}** ({low:.2f} - {high:.2f})"]
            cells += [f"{curve['memory_exponent']:.2f}" if curve["memory_exponent"] is not None else ""]
        lines.append(f"| {' | '.join(cells)} |")
    how = "processor time of one thread" if result["settings"]["cpu_time"] else "wall-clock time"
    base = result["settings"]["base"]
    lines += [
        "",
        "Exponents of power laws, fitted to the upper half of the sizes: 1 is in proportion. Median and quartiles of "
        f"turns; {how}. A Gated PixelCNN with {base['layers']} layers of {base['hidden']} channels, {base['batch']} "
        f"images of {base['side']}x{base['side']} (4 where their size changes). {where(result['machine'])}.",
    ]
    return "\n".join(lines)


def likelihoods(result: dict[str, Any]) -> str:
    lines = [
        "| command | held-out images | nats per image | bits/dim | training |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        command = f"`genfast train {row['model']} --data {row['trained_on']} --preset {row['preset']} -o RUN`"
        threads = f"{row['train_threads']} thread" + ("s" if row["train_threads"] != 1 else "")
        nats = f"{row['nats_per_image']:.2f} ± {row['nats_standard_error']:.2f}"
        if "bound" in row:
            nats = f"at most {nats} ({row['bound']})"
        cells = (
            command,
            f"{row['images']} of {row['data']}",
            nats,
            f"{row['bits_per_dim']:.4f}",
            f"{row['train_seconds'] / 60:.0f} min, {threads}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"By `genfast evaluate RUN`. {where(result['machine'])}."]
    return "\n".join(lines)


def features(result: dict[str, Any]) -> str:
    """As `genfast probe` says it."""
    return f"{result['said']}\n\n{where(result['machine'])}."


TABLES = {
    "sampling": sampling,
    "sampling_pp": sampling,
    "masked_conv2d": masked_conv2d,
    "lstm": lstm,
    "logistic_mixture": logistic_mixture,
    "gated_activation": gated_activation,
    "training": training,
    "scaling": scaling,
    "likelihoods": likelihoods,
    "features": features,
}


def filled(text: str) -> str:
    """A page with every table between its markers made anew."""

    def made(found: re.Match[str]) -> str:
        begin, name, end = found[1], found[2], found[3]
        results = ROOT / "benchmarks" / "results" / f"{name}.json"
        return f"{begin}\n{TABLES[name](json.loads(results.read_text()))}\n{end}"

    return re.sub(r"(<!-- table:(\w+) -->).*?(<!-- end:\2 -->)", made, text, flags=re.DOTALL)


def main() -> None:
    pages = {path: path.read_text() for path in PAGES}
    found = sorted(re.findall(r"<!-- table:(\w+) -->", "".join(pages.values())))
    if found != sorted(TABLES):
        raise SystemExit(f"Each table belongs in one place: there are markers for {found}, and {sorted(TABLES)}.")
    if "--check" in sys.argv[1:]:
        for path, text in pages.items():
            if filled(text) != text:
                raise SystemExit(f"{path.name} differs from benchmarks/results: run python benchmarks/report.py.")
        return
    folders = [Path(name) for name in sys.argv[1:]]
    if folders:
        from results import take_over, take_over_scaling  # need torch, which the tables do not

        scaled = [folder for folder in folders if (folder / "scaling.json").exists()]
        timed = [folder for folder in folders if (folder / "bench.json").exists()]
        for path in [*map(take_over_scaling, scaled), *(take_over(timed) if timed else [])]:
            print("wrote", path)
    for path, text in pages.items():
        path.write_text(filled(text))


if __name__ == "__main__":
    main()
