"""Profiles of tiny models: what is slow shows up, sums are right, files are whole. No time is compared with a clock."""

import json
import time

import pytest
import torch
from torch import nn

import genfast
from genfast.compiler.cost import cost
from genfast.errors import GenfastError
from genfast.models import VAE, GatedPixelCNN, GatedPixelCNNConfig, PixelCNN, PixelCNNConfig, VAEConfig
from genfast.ops import backends
from genfast.profiling import files, profile_sampler, table, workload
from genfast.profiling.ceilings import Ceilings
from genfast.profiling.operators import profile_operator, profile_operators
from genfast.profiling.profile import LATENCY, Row, against
from genfast.profiling.sampler import between_uses, quickest, teams
from genfast.profiling.trace import write_trace
from genfast.training import TrainConfig

CNN = PixelCNNConfig((1, 4, 5), levels=3, hidden=2, blocks=1, head=3, first_kernel=3)
CEILINGS = Ceilings(1, "float32", ((256, 100.0),), ((1, 10.0),), ((1, 10.0),), 20.0)
needs_extension = pytest.mark.skipif(bool(backends.NO_EXTENSION), reason=backends.NO_EXTENSION)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@torch.library.custom_op("profiling_tests::slow_relu", mutates_args=())
def slow_relu(x: torch.Tensor) -> torch.Tensor:
    """A kernel that somebody wrote badly."""
    time.sleep(0.2)
    return x.relu()


# ---- what a row says ----


def made(row: Row) -> Row:
    return against([row], CEILINGS, {"bandwidth": lambda row: 10.0, "weight bandwidth": lambda row: 5.0})[0]


def test_floors_percentages_and_bounds() -> None:
    row = made(Row("a", 2, 4.0, flops=200, exponentials=20, traffic={"bandwidth": 10, "weight bandwidth": 15}))
    assert row.floors == {"arithmetic": 3.0, "bandwidth": 1.0, "weight bandwidth": 3.0}
    assert row.percent == 75
    assert (row.flop_rate, row.byte_rate) == (50, 6.25)
    assert made(Row("b", 1, 2.0, 0, 0, {"weight bandwidth": 10})).bound == "weight bandwidth"
    assert made(Row("c", 1, 2.0, 200, 0, {"bandwidth": 1})).bound == "arithmetic"
    assert made(Row("d", 1, 10.0, 200, 0, {"bandwidth": 1})).bound == LATENCY  # a fifth is explained
    empty = made(Row("e", 0, 0.0, 0, 0, {}))
    assert (empty.percent, empty.bound) == (0, LATENCY)


def test_rows_come_longest_first() -> None:
    rows = against([Row(name, 1, seconds, 0, 0, {}) for name, seconds in (("a", 1.0), ("b", 3.0))], CEILINGS, {})
    assert [row.name for row in rows] == ["b", "a"]


def test_the_quickest_turn_of_each_kernel_counts() -> None:
    def clock(gemm):
        return {"name": "k", "gather": 0.0, "gemm": gemm, "body": 0.0, "store": 0.0}

    runs = [{"kernels": [clock(1.0), clock(5.0)], "draws": 2.0}, {"kernels": [clock(3.0), clock(4.0)], "draws": 1.0}]
    found = quickest(runs)
    assert [k["gemm"] for k in found["kernels"]] == [1.0, 4.0]
    assert found["draws"] == 1.0


def test_threads_that_share_an_image_read_its_weights_once() -> None:
    assert [teams(n, 4) for n in (1, 3, 4, 100)] == [1, 3, 4, 4]


def test_weights_come_round_again_after_a_tick() -> None:
    plan = genfast.compile_sampler(PixelCNN(CNN).eval(), engine="eager").plan
    reads = cost(plan).weight_reads
    assert between_uses(plan, 4, 2, "float32") == reads // plan.ticks * 4
    assert between_uses(plan, 1, 2, "float32") == reads // plan.ticks * 4 // 2  # two threads share the image
    assert between_uses(plan, 4, 2, "bfloat16") == reads // plan.ticks * 2


# ---- the sampler ----


class SlowActivation(nn.Module):
    def forward(self, x):
        for _ in range(200):
            x = torch.sin(x)
        return x


@needs_extension
def test_a_sampler_profile_counts_what_the_plan_does() -> None:
    sampler = genfast.compile_sampler(PixelCNN(CNN).eval(), engine="cpu")
    profile = profile_sampler(sampler, 3, "tiny", turns=2, quick=True)
    sampler.sample(3)
    assert sum(row.flops for row in profile.rows) == sampler.stats.flops
    assert sum(row.calls for row in profile.rows if row.name != "draws") == sampler.stats.steps
    assert {row.name for row in profile.rows} == {*(k.name for k in sampler.plan.kernels), "draws"}
    draws = next(row for row in profile.rows if row.name == "draws")
    assert (draws.calls, draws.exponentials) == (20, 20 * 3 * 3)
    assert sum(profile.share(row) for row in profile.rows) == pytest.approx(1)
    assert sum(profile.by_bound().values()) == pytest.approx(1)
    said = table(profile, most=3)
    assert "tiny: sample" in said
    assert "an image" in said
    assert "a pixel" in said
    assert f"and {len(profile.rows) - 3} others" in said


@needs_extension
def test_a_slow_activation_shows_up_in_the_steps() -> None:
    plain, slow = PixelCNN(CNN).eval(), PixelCNN(CNN).eval()
    slow.load_state_dict(plain.state_dict())
    slow.head[2] = SlowActivation()
    shares = []
    for model in (plain, slow):
        sampler = genfast.compile_sampler(model, engine="cpu")
        profile = profile_sampler(sampler, 2, turns=3, quick=True)
        step = next(row for row in profile.rows if row.name.startswith("head.1"))
        shares.append(profile.share(step))
    first = profile.rows[0]
    assert "sin" in first.name
    assert first.detail["body"] > first.detail["gemm"]  # where in the step
    assert shares[1] > 0.5 > shares[0]


@needs_extension
def test_a_conditional_sampler_can_be_profiled() -> None:
    config = GatedPixelCNNConfig((1, 3, 3), levels=2, hidden=2, layers=1, head=2, first_kernel=3, num_classes=3)
    sampler = genfast.compile_sampler(GatedPixelCNN(config).eval(), engine="cpu")
    assert profile_sampler(sampler, 4, turns=1, quick=True).images == 4


def test_only_the_cpu_engine_measures_its_steps() -> None:
    with pytest.raises(GenfastError, match="eager engine does not measure"):
        profile_sampler(genfast.compile_sampler(PixelCNN(CNN).eval(), engine="eager"), 2)


# ---- operators ----


def test_a_slow_operator_shows_up() -> None:
    model = PixelCNN(CNN).eval()
    plain = workload.scoring(model, 2)
    before = profile_operators(plain.run, "evaluate", 2, 20, turns=2, quick=True)
    assert "profiling_tests::slow_relu" not in {row.name for row in before.rows}

    class Slow(nn.Module):
        def forward(self, x):
            return slow_relu(x)

    model.head[0] = Slow()
    after = profile_operators(workload.scoring(model, 2).run, "evaluate", 2, 20, turns=2, quick=True)
    assert after.rows[0].name == "profiling_tests::slow_relu"
    assert after.share(after.rows[0]) > 0.5
    assert after.rows[0].bound == LATENCY  # nothing that this machine can do explains it


def test_a_training_step_is_the_one_of_genfast_train() -> None:
    model = PixelCNN(CNN)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    work = workload.training("pixelcnn", model, TrainConfig(max_steps=5), 4, "cpu")
    profile = profile_operators(work.run, "train", 4, 20, turns=2, quick=True)
    names = {row.name for row in profile.rows}
    assert {"genfast::masked_conv2d", "genfast::masked_conv2d_bwd_weight", "genfast::masked_conv2d_bwd_input"} <= names
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())  # a copy was trained
    assert not torch.equal(work.network.first.weight, weights["first.weight"])


def test_one_operator_by_its_shapes() -> None:
    work = workload.training("pixelcnn", PixelCNN(CNN), TrainConfig(max_steps=5), 4, "cpu")
    profile = profile_operator(work.run, "masked_conv2d_bwd_weight", 4, 20, quick=True)
    assert all("masked_conv2d_bwd_weight [4, " in row.name for row in profile.rows)
    assert sum(row.calls for row in profile.rows) == 7
    with pytest.raises(GenfastError, match=r"row_lstm is an operator of genfast.*genfast::masked_conv2d"):
        profile_operator(work.run, "row_lstm", 4, 20, quick=True)
    with pytest.raises(GenfastError, match="No operator with 'nonsense'"):
        profile_operator(work.run, "nonsense", 4, 20, quick=True)


# ---- files ----


def test_files_are_whole_and_need_nothing_else(tmp_path) -> None:
    model = VAE(VAEConfig((1, 4, 5), levels=3, network="mlp", latent=2, hidden=3)).eval()
    work = workload.scoring(model, 2)
    profile = profile_operators(work.run, "evaluate", 2, 20, "a <vae>", turns=1, quick=True)
    names = files.write_profile(profile, tmp_path / "p", lambda path: write_trace(path, work.run, work.network))
    assert {path.name for path in (tmp_path / "p").iterdir()} == set(names)
    html = (tmp_path / "p" / "report.html").read_text()
    assert "a &lt;vae&gt;" in html
    assert "src='data:image/png;base64," in html
    assert not any(outside in html for outside in ("src='http", "<script", "<link"))
    assert all(row.name in html for row in profile.rows)
    assert "There is no GPU here" in html or torch.cuda.is_available()
    assert (tmp_path / "p" / "roofline.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert [row["name"] for row in said["rows"]] == [row.name for row in profile.rows]
    assert said["rows"][0]["bound"] == profile.rows[0].bound
    trace = json.loads((tmp_path / "p" / "trace.json").read_text())
    ran = {event.get("name") for event in trace["traceEvents"]}
    assert {"encoder", "decoder", "aten::addmm"} <= ran
    files.write_profile(profile, tmp_path / "p")  # without a trace the old one would be of something else
    assert not (tmp_path / "p" / "trace.json").exists()
