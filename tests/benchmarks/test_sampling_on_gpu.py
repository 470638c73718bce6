"""The GPU cases of sampling without a GPU: which there are, and what they do with Triton interpreted."""

from pathlib import Path

import pytest

from tests.benchmarks.sampling_on_gpu_checks import CHECKS
from tests.kernels.apart import needs_triton, run_in_process

SCRIPT = Path(__file__).parent / "sampling_on_gpu_checks.py"


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(SCRIPT, [], {"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.parametrize("name", CHECKS)
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


def test_both_engines_have_every_case_and_a_quick_run_has_the_targets() -> None:
    import sampling_on_gpu
    from cases import Options, cases_of

    every = cases_of("sampling", Options(device="cuda"))
    quick = cases_of("sampling", Options(quick=True, device="cuda"))
    for engine in sampling_on_gpu.ENGINES:
        mine = [case for case in every if case.facts["engine"] == engine]
        assert len(mine) == len(sampling_on_gpu.SIZES) + 1
        assert {part for case in mine for part in case.parts} == {"ratio", "bfloat16"} | (
            {"tf32"} if engine == "triton" else set()
        )
    timed = {(case.facts["model"], case.facts["batch"], part) for case in quick for part in case.parts}
    for size in sampling_on_gpu.SIZES:
        for target in size.targets:
            assert any(
                (size.title, size.batch, part) in timed for part in sampling_on_gpu.PARTS if target.part in ("", part)
            ), f"{size.title}: {target}"


def test_layouts_and_precisions_are_put_back() -> None:
    import passes
    import torch

    before = [module.channels_last for module in passes.LAY_OUT]
    gate = passes.ops.gated_activation
    settings = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision

    def fails() -> None:
        with passes.written_plainly("contiguous"), passes.products_in("tf32"):
            assert all(module.channels_last is torch.Tensor.contiguous for module in passes.LAY_OUT)
            assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "tf32"
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [module.channels_last for module in passes.LAY_OUT] == before
    assert passes.ops.gated_activation is gate
    assert (torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision) == settings
