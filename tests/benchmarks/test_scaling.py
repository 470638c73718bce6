"""genfast bench --scaling: the fit, the verdict, memory, and the files. No time is compared with a clock."""

import json
import math

import pytest
import torch


def curve(*seconds: tuple[float, ...], promise: tuple[float, float] = (-math.inf, 1.1), memory: tuple[int, ...] = ()):
    from scaling import Curve

    x = tuple(2**i for i in range(len(seconds)))
    return Curve("batch", "drawing", x, seconds, memory or (-1,) * len(x), promise, "it grows no faster than the batch")


def test_exponents_are_those_of_the_upper_half_turn_by_turn() -> None:
    # Two turns, the second on a machine that was three times as slow; a fixed cost in the smallest two.
    found = curve((5.0, 15.0), (5.0, 15.0), (4.0, 12.0), (8.0, 24.0), (16.0, 48.0), memory=(7, 7, 40, 80, 160))
    assert found.exponents() == pytest.approx((1.0, 1.0, 1.0))
    assert found.memory_exponent() == pytest.approx(1.0)
    assert "time ~ batch^1.00 (1.00 to 1.00); memory ~ batch^1.00" in found.line()
    assert found.line().endswith("yes")


def test_a_promise_is_broken_only_beyond_the_spread() -> None:
    worse = curve((1.0,) * 4, (2.5,) * 4, (6.25,) * 4)
    assert not worse.kept
    assert worse.line().endswith("NO")
    noisy = curve((1.0,) * 4, (2.0,) * 4, (4.0, 4.0, 8.0, 16.0))
    assert noisy.exponents()[2] > 1.1
    assert noisy.kept


def test_memory_is_what_the_call_takes_beyond_what_was_there() -> None:
    from scaling import grown

    kept = torch.ones(1 << 20)
    found = grown(lambda: torch.ones(10 << 20).sum() + kept.sum())  # 40 MiB, for a moment
    assert found == -1 or 39 << 20 < found < 60 << 20


def test_everything_is_written(tmp_path, monkeypatch, capsys) -> None:
    import scaling

    tiny = scaling.Setting(batch=2, side=4, layers=1, hidden=4)
    axes = (
        scaling.Axis("batch", "batch", (1, 2), (1, 2), base=tiny),
        scaling.Axis("pixels", "side", (4, 5), (4, 5), (math.inf, math.inf), "that cannot be kept", tiny),
    )
    monkeypatch.setattr(scaling, "AXES", axes)
    monkeypatch.setattr(scaling, "CORES", torch.get_num_threads())
    threads = torch.get_num_threads()
    try:
        assert scaling.run(tmp_path, True, 1, False) == 1
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    assert "that cannot be kept: NO" in capsys.readouterr().out
    curves = json.loads((tmp_path / "scaling.json").read_text())["curves"]
    assert [(each["axis"], each["kind"], each["kept"]) for each in curves] == [
        ("batch", "drawing", True),
        ("batch", "training", True),
        ("pixels", "drawing", False),
        ("pixels", "training", False),
    ]
    assert curves[2]["x"] == [16, 25]
    page = (tmp_path / "scaling.html").read_text()
    for name in ("batch", "pixels"):
        assert (tmp_path / f"scaling-{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"alt='{name}'" in page
