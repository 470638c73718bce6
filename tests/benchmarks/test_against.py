"""genfast bench --compare: the other version's checkout, its process, and when a change is a change."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from genfast.errors import GenfastError

ROOT = Path(__file__).parents[2]


class FakeVersion:
    """Takes these seconds a call, turn after turn."""

    def __init__(self, *seconds: float) -> None:
        self.all, self.asked = seconds, 0

    def seconds(self, part: str, calls: int = 1) -> float:
        self.asked += 1
        return self.all[self.asked % len(self.all)] * calls


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [((0.02,), "SLOWER"), ((0.005,), "faster"), ((0.0102,), "no change"), ((0.005, 0.005, 0.02), "too noisy")],
)
def test_a_change_is_more_than_noise(ours: tuple[float, ...], verdict: str) -> None:
    from against import change

    found = change(FakeVersion(*ours), FakeVersion(0.01), "case", "forward")  # type: ignore[arg-type]
    assert found.verdict.startswith(verdict)
    assert "case, forward" in found.line()


def test_what_looks_like_a_change_is_measured_again() -> None:
    from against import change

    class Disturbed(FakeVersion):
        """Slow only while something else ran, at first."""

        def seconds(self, part: str, calls: int = 1) -> float:
            self.asked += 1
            return (0.02 if self.asked < 18 else 0.01) * calls

    assert change(Disturbed(), FakeVersion(0.01), "case", "forward").verdict.startswith("no change")  # type: ignore


def commit(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "-f", name], check=True)
    subprocess.run([*git, "commit", "-q", "-m", name], check=True)


def test_another_revision_is_checked_out_and_built_once(tmp_path: Path, capsys) -> None:
    from against import checkout

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit(tmp_path, "genfast/a.py", "old = 1")
    commit(tmp_path, "setup.py", "open('genfast/_C.so', 'w').write('built')")
    commit(tmp_path, "kernels/a.cpp", "old")
    commit(tmp_path, "genfast/a.py", "new = 1")
    (tmp_path / "genfast" / "_C.so").write_text("of this checkout")
    tree = checkout("HEAD~1", root=tmp_path)
    assert (tree / "genfast" / "a.py").read_text() == "old = 1"
    assert (tree / "genfast" / "_C.so").read_text() == "of this checkout"  # only Python differs
    commit(tmp_path, "kernels/a.cpp", "new")
    tree = checkout("HEAD~1", root=tmp_path)
    assert (tree / "genfast" / "_C.so").read_text() == "built"
    assert "Building" in capsys.readouterr().out
    assert checkout("HEAD~1", root=tmp_path) == tree
    assert "Building" not in capsys.readouterr().out
    commit(tmp_path, "setup.py", "raise SystemExit('no compiler')")
    commit(tmp_path, "kernels/a.cpp", "newest")
    with pytest.raises(GenfastError, match="does not build"):
        checkout("HEAD~1", root=tmp_path)


def test_a_worker_prepares_checks_and_takes_turns() -> None:
    from against import ROOT, Version
    from cases import Options, all_cases

    name = all_cases(Options(quick=True), "VAE, 28x28x1")[0].name
    version = Version(ROOT, Options(quick=True, compiled=False), 1, False)
    try:
        assert version.ask(prepare=name) == {"parts": ["forward", "step"]}
        assert version.seconds("forward", 2) > 0
        assert "no such case" in version.ask(prepare="lstm: none")["error"]
        assert "KeyError" in version.ask(part="step", calls=1)["error"]
    finally:
        version.end()
    assert version.process.returncode == 0


def test_the_page_says_what_is_slower() -> None:
    import page
    from against import Change
    from harness import Ratio

    slower = Change("a case", "forward", Ratio(0.5, 0.4, 0.6, 2.0, 1.0))
    text = page.comparison(["Against main."], {"cpu": "x"}, [slower, Change("b", "", skipped="there, no <op>")])
    assert "class=slower>SLOWER" in text
    assert "no &lt;op&gt;" in text
    assert json.dumps(slower.line())


OLDER = """
import sys
sys.path.insert(0, sys.argv[1])
import genfast
from genfast import models, ops, sampling
from genfast.profiling import ceilings, recorder
del ops.gated_activation
for name in ("genfast.compiler.products", "genfast.kernels.gated_activation", "genfast.kernels.gated_activation.work"):
    sys.modules[name] = None
import worker, cases, passes, training
for suite in ("sampling", "masked_conv2d", "lstm", "logistic_mixture", "training"):
    assert cases.cases_of(suite, cases.Options())
with passes.written_plainly("contiguous"), training.plain_layers():
    pass
"""


def test_an_older_version_lacks_no_more_than_its_own_cases() -> None:
    """The benchmarks, which are this checkout's, ask a version for what it has."""
    done = subprocess.run([sys.executable, "-c", OLDER, str(ROOT / "benchmarks")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
