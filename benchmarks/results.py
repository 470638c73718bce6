"""benchmarks/results/*.json from what `genfast bench` wrote: one object for each case of a table that is complete."""

import json
from pathlib import Path
from typing import Any

from cases import SUITES, Options, cases_of, suite_module
from harness import RESULTS


def row_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """All parts of one case as a row of benchmarks/results: PART_median and so on, against the fastest rival."""
    row = dict(entries[0]["facts"])
    left_out: list[str] = []
    for entry in entries:
        part, ratio = entry["part"], entry["rivals"][entry["fastest"]]
        row |= {f"{part}_{key}": round(value, 6) for key, value in ratio.items()}
        row[f"{part}_rival"] = entry["fastest"]
        row[f"{part}_rivals"] = {name: round(each["median"], 3) for name, each in entry["rivals"].items()}
        row |= {f"{part}_of_floor": round(entry["of_floor"], 3)} if entry["of_floor"] else {}
        row |= entry["more"]
        left_out += [name for name in entry["left_out"] if name not in left_out]
    return {**row, "left_out": left_out}


def take_over_scaling(folder: Path) -> Path:
    """Of genfast bench --scaling."""
    values = json.loads((folder / "scaling.json").read_text())
    if values["settings"]["quick"]:
        raise SystemExit(f"{folder}: only a full run counts as a result.")
    path = RESULTS / "scaling.json"
    path.write_text(json.dumps(values, indent=1) + "\n")
    return path


def take_over(folders: list[Path]) -> list[Path]:
    """folders: of genfast bench, each with a part of the cases, all on one machine with one commit; of a case that is
    in several the last counts. Writes the tables of which they have every case; the others stay as they are. Exits with
    a sentence for a run that is no measure."""
    runs = [json.loads((folder / "bench.json").read_text()) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        settings = run["settings"]
        if settings["quick"] or settings["cpu_time"] or settings["device"] != "cpu" or run["wrong"]:
            raise SystemExit(f"{folder}: only a full run on a CPU in which every answer was right counts as a result.")
        differing = {key for key in run["machine"] if run["machine"][key] != runs[0]["machine"][key]} - {"date"}
        if differing:
            raise SystemExit(f"{folder} and {folders[0]} differ in {', '.join(sorted(differing))}.")
    written = []
    cases = [case for suite in SUITES for case in cases_of(suite, Options())]
    for table in dict.fromkeys(case.table for case in cases):
        mine = [case for case in cases if case.table == table]
        all_entries = [entry for run in runs for entry in run["entries"] if entry["table"] == table]
        entries = list({(entry["title"], entry["part"]): entry for entry in all_entries}.values())
        missing = {case.title for case in mine} - {entry["title"] for entry in entries}
        if missing:
            print(f"{table} stays as it is: {len(missing)} of its {len(mine)} cases were not measured.")
            continue
        rows = [row_of([entry for entry in entries if entry["title"] == case.title]) for case in mine]
        more = {"compile_limit": runs[0]["settings"]["compile_limit"], **entries[-1]["ceilings"]}
        arrange = getattr(suite_module(mine[0].suite), "arrange", lambda rows: {"rows": rows})
        path = RESULTS / f"{table}.json"
        path.write_text(json.dumps({"machine": runs[0]["machine"], **more, **arrange(rows)}, indent=1) + "\n")
        written.append(path)
    return written
