"""A slow-down of the hot CPU kernels, found without a clock: instructions, counted by callgrind.

    python benchmarks/guard/guard.py            compares with counts.json; exits with 1 where a kernel got slower
    python benchmarks/guard/guard.py --write    after a change that is meant: writes counts.json anew

Counts repeat on every machine, however busy, as long as the compiler is the same: the kernels are compiled for one
instruction set (AVX2, the widest that valgrind knows), with the options of CMakeLists.txt. They say nothing of caches
and little of how many instructions run at once: `genfast bench --compare` measures that.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COUNTS = HERE / "counts.json"
TOLERANCE = 0.02  # what a change elsewhere in a file may do to what is inlined
SOURCES = ("tap_gemm/cpu", "masked_conv2d/cpu", "pointwise/cpu", "reduce/cpu", "categorical/cpu", "lstm/cpu",
           "logistic_mixture/cpu", "logistic_mixture/draw", "gated_activation/cpu")  # fmt: skip
FLAGS = ("-std=gnu++20", "-O3", "-DNDEBUG", "-Wno-psabi", "-mavx2", "-mfma")
KERNEL_FLAGS = ("-fno-exceptions", "-fno-math-errno", "-DGENFAST_ISA=avx2")


def compiler() -> str:
    """As it calls itself, such as "g++ (Debian 12.2.0-14+deb12u1) 12.2.0"; empty where there is none."""
    if not shutil.which("g++"):
        return ""
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def why_not() -> str:
    """Empty if counts can be taken here and compared with those that are stored, or else one sentence."""
    if os.uname().machine not in ("x86_64", "amd64"):
        return "the guard counts instructions of AVX2, which this processor does not have."
    if not shutil.which("valgrind"):
        return "valgrind is not installed, so no instructions can be counted."
    if not compiler():
        return "g++ is not installed, so the kernels cannot be compiled for the guard."
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        return "this processor has no AVX2, which the guard's kernels need."
    return ""


def other_compiler() -> str:
    """Empty if the stored counts are of this compiler, or else one sentence."""
    stored = json.loads(COUNTS.read_text())["compiler"]
    if stored == compiler():
        return ""
    return f"the counts in {COUNTS.name} are of {stored}, and this is {compiler()}: another compiler counts otherwise."


def build(
    folder: Path, kernels: Path = ROOT / "kernels", sources: Sequence[str] = SOURCES, flags: Sequence[str] = ()
) -> Path:
    """The program with all kernels. Objects are kept in the folder, by what they are made of."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = b"".join(path.read_bytes() for path in sorted(kernels.rglob("*.h")))

    def compiled(source: Path, options: Sequence[str]) -> str:
        made_of = " ".join((compiler(), *options)).encode() + headers + source.read_bytes()
        out = folder / f"{hashlib.sha256(made_of).hexdigest()[:24]}.o"
        if not out.exists():
            part = out.with_suffix(f".{os.getpid()}")
            command = ["g++", *options, "-I", str(kernels), "-c", "-x", "c++", str(source), "-o", str(part)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{source} does not compile:\n{done.stderr[-2000:]}")
            part.replace(out)
        return str(out)

    jobs = [(kernels / f"{name}.cpp", (*FLAGS, *KERNEL_FLAGS)) for name in SOURCES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda job: compiled(*job), [*jobs, (HERE / "kernels.cpp", FLAGS)]))
    program = folder / "kernels"
    subprocess.run(["g++", *objects, "-o", str(program)], check=True)
    return program


def count(program: Path, folder: Path) -> dict[str, int]:
    """Instructions of each kernel, by its name."""
    for old in folder.glob("callgrind.out*"):
        old.unlink()
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={folder / 'callgrind.out'}",
        "--collect-atstart=no",
    ]
    command += ["--toggle-collect=measured", "--dump-after=measured", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{program} under valgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
    names = done.stdout.splitlines()
    dumps = sorted(folder.glob("callgrind.out.*"), key=lambda path: int(path.suffix[1:]))[: len(names)]
    totals = [re.findall(r"^(?:totals|summary): (\d+)", path.read_text(), re.MULTILINE) for path in dumps]
    if len(totals) != len(names) or not all(totals):
        raise SystemExit(f"callgrind left {len(dumps)} counts for {len(names)} kernels.")
    return {name: int(total[-1]) for name, total in zip(names, totals, strict=True)}


def changes(
    old: Mapping[str, int], new: Mapping[str, int], tolerance: float = TOLERANCE
) -> tuple[list[str], list[str]]:
    """(what got slower or is not known, what got faster), each in a sentence with the old and the new count."""
    worse, better = [], []
    for name in dict.fromkeys((*old, *new)):
        if name not in old or name not in new:
            worse.append(f"{name}: only in {'counts.json' if name in old else 'kernels.cpp'}.")
            continue
        change = new[name] / old[name] - 1
        said = f"{name}: {old[name]} -> {new[name]} instructions, {change:+.1%}."
        if change > tolerance:
            worse.append(said)
        elif change < -tolerance:
            better.append(said)
    return worse, better


WHAT_TO_DO = (
    "Where that is meant, say so in the commit and write the new counts: python benchmarks/guard/guard.py --write"
)


def main() -> None:
    reason = why_not()
    if reason:
        raise SystemExit(f"Nothing was compared: {reason}")
    folder = ROOT / "build" / "guard"
    new = count(build(folder), folder)
    if "--write" in sys.argv[1:]:
        COUNTS.write_text(json.dumps({"compiler": compiler(), "instructions": new}, indent=1) + "\n")
        print(f"wrote {COUNTS}")
        return
    if other_compiler():
        raise SystemExit(f"Nothing was compared: {other_compiler()}")
    worse, better = changes(json.loads(COUNTS.read_text())["instructions"], new)
    print("\n".join(["Slower:", *worse] * bool(worse) + ["Faster:", *better] * bool(better)) or "No kernel changed.")
    if worse:
        raise SystemExit(WHAT_TO_DO)


if __name__ == "__main__":
    main()
