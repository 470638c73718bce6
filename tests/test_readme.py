"""README.md tells the truth: its tables are the committed results, its example runs, what it names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_tables_are_those_of_the_results() -> None:
    run = subprocess.run([sys.executable, "benchmarks/report.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 2
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "digits.png").stat().st_size > 0


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for name in re.findall(r"examples/\w+\.py", README + (ROOT / "docs" / "accelerate.md").read_text()):
        assert (ROOT / name).exists(), name


def test_commands_exist() -> None:
    from genfast.cli.main import VERBS

    for verb in re.findall(r"^genfast (\w+)", README, re.MULTILINE):
        assert verb in VERBS
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake (\w[\w-]*)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_profile_example_says_what_a_profile_says() -> None:
    from genfast.models import MODELS
    from genfast.profiling.profile import BOUNDS
    from genfast.profiling.table import COLUMNS

    ((name, preset),) = re.findall(r"^genfast profile ([\w-]+):([\w-]+)", README, re.MULTILINE)
    assert preset in MODELS[name].presets
    head, rows = re.findall(r"^\| step \|(.*)\|\n\|[-|]*\n((?:\|.*\n)+)", README, re.MULTILINE)[0]
    assert {cell.strip() for cell in head.split("|")} <= {"images", *COLUMNS}
    for row in rows.splitlines():
        assert row.split("|")[-2].strip() in BOUNDS
