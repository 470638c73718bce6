"""logistic_mixture as a PyTorch operator: the definition in decimals, every backend that runs here against the
reference, and the machinery around it."""

import math
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from functools import partial

import pytest
import torch
from torch import Tensor

from genfast import ops
from genfast.kernels.logistic_mixture.reference import logistic_mixture as reference
from genfast.ops.backends import BACKENDS, OPERATORS, why_not
from genfast.testing import assert_close_to_reference, rerun_on
from tests.ops.logistic_mixtures import CASES, is_log_scale, make_inputs, param_channels, run, run_reference

RUNNABLE = [b for b in OPERATORS["logistic_mixture"] if b in ("reference", "cpu") and not why_not(b)]
DTYPES = [torch.float32, torch.float64]
needs_extension = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")
NONE = -math.inf  # min_log_scale: no log-scale is raised


def sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def bin_probability(level: int, mean: Decimal, log_scale: float, levels: int) -> Decimal:
    """Equation 2; above the mean with 1 - sigmoid(v) = sigmoid(-v), as 1 - tiny would want more digits far out."""
    x, h = Decimal(2 * level) / (levels - 1) - 1, Decimal(1) / (levels - 1)
    s = Decimal(log_scale).exp()
    a, b = (x - h - mean) / s, (x + h - mean) / s
    first, last = level == 0, level == levels - 1
    if x > mean:
        return (1 if first else sigmoid(-a)) - (0 if last else sigmoid(-b))
    return (1 if last else sigmoid(b)) - (0 if first else sigmoid(a))


def in_decimals(params: list[float], pixel: list[int], components: int | None, levels: int) -> list[Decimal]:
    """ln P of one pixel, from its parameters and levels; equation 3 for three colours."""
    k_count, channels = components or 1, len(pixel)
    if components is None:
        return [
            bin_probability(level, Decimal(params[c]), params[channels + c], levels).ln()
            for c, level in enumerate(pixel)
        ]
    weights = [Decimal(v).exp() for v in params[:k_count]]
    x = [Decimal(2 * level) / (levels - 1) - 1 for level in pixel]
    rows = 3 if channels == 3 else 2
    total = Decimal(0)
    for k in range(k_count):

        def at(c: int, row: int, k: int = k) -> float:
            return params[k_count + (c * rows + row) * k_count + k]

        means = [Decimal(at(c, 0)) for c in range(channels)]
        if channels == 3:
            c0, c1, c2 = (2 * sigmoid(2 * Decimal(at(c, 2))) - 1 for c in range(3))  # tanh
            means[1] += c0 * x[0]
            means[2] += c1 * x[0] + c2 * x[1]
        p = weights[k]
        for c in range(channels):
            p *= bin_probability(pixel[c], means[c], at(c, 1), levels)
        total += p
    return [(total / sum(weights)).ln()]


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("case", [CASES[i] for i in (1, 3, 4, 9, 11)], ids=str)
@pytest.mark.parametrize("shift", [0.0, -15.0, 18.0])
def test_is_the_definition_in_decimals(case: tuple, shift: float, backend: str) -> None:
    """All log-scales shifted: from -20, where a pixel that misses its mean has ln P of -1e9, to +20."""
    params, images, _ = make_inputs(case)
    params[:, is_log_scale(case[1], case[4])] += shift
    out = ops.logistic_mixture(params, images, case[4], case[5], NONE, backend)
    out = out if case[4] is None else out[:, None]
    with localcontext(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN):
        for y, x in ((0, 0), (case[2] - 1, case[3] - 1), (case[2] // 2, case[3] // 3)):
            exact = in_decimals(params[0, :, y, x].tolist(), images[0, :, y, x].tolist(), case[4], case[5])
            expected = torch.tensor([float(v) for v in exact], dtype=torch.float64)
            torch.testing.assert_close(out[0, :, y, x], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("components", [None, 3])
def test_probabilities_of_all_levels_sum_to_one(
    components: int | None, levels: int, dtype: torch.dtype, backend: str
) -> None:
    """For log-scales from -20 to 20, means in the middle, on an edge between bins, at the ends and far outside."""
    log_scales = torch.tensor([-20.0, -7, -5, -2, 0, 3, 20])
    means = torch.tensor([0.0, 1 / 3, 1 / (levels - 1), -1, 1, 1.5, -50, 1e4, -1e10])
    grid = torch.stack(torch.meshgrid(means, log_scales, indexing="ij"))[None]  # [1, 2, 9, 7]
    if components:
        logits, spread = torch.randn(1, 3, 9, 7), torch.tensor([0.0, 0.03, -0.4])[None, :, None, None]
        params = torch.cat([logits, grid[:, :1] + spread, grid[:, 1:] + spread], 1)
    else:
        params = grid
    every = torch.arange(levels, dtype=torch.uint8)[:, None, None, None].expand(levels, 1, 9, 7)
    params = params.to(dtype).expand(levels, -1, -1, -1)
    total = ops.logistic_mixture(params, every, components, levels, NONE, backend).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_probabilities_of_all_colours_sum_to_one(backend: str) -> None:
    params, _, _ = make_inputs((1, 3, 1, 1, 4, 6, "contiguous"))
    every = torch.cartesian_prod(*[torch.arange(6, dtype=torch.uint8)] * 3).view(216, 3, 1, 1)
    total = ops.logistic_mixture(params.expand(216, -1, -1, -1), every, 4, 6, -7.0, backend).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_equal_reference(case: tuple, dtype: torch.dtype, backend: str) -> None:
    params, images, grad = make_inputs(case, dtype)
    actual = run(partial(ops.logistic_mixture, backend=backend), params, images, grad, case)
    inputs = (params, images, grad)
    assert_close_to_reference(actual, partial(run_reference, case=case), inputs, dtype, names=("ln P", "dparams"))


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("case", [CASES[i] for i in (1, 2, 3, 9)], ids=str)
def test_bfloat16_is_only_stored(case: tuple, backend: str) -> None:
    """The same float32 numbers as from the same parameters in float32; gradients are rounded once."""
    params, images, grad = make_inputs(case, torch.bfloat16)
    operator = partial(ops.logistic_mixture, backend=backend)
    out, dparams = run(operator, params, images, grad.float(), case)
    wide_out, wide_dparams = run(operator, params.float(), images, grad.float(), case)
    assert out.dtype == torch.float32
    assert dparams.dtype == torch.bfloat16
    assert torch.equal(out, wide_out)
    assert torch.equal(dparams, wide_dparams.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(operator(params.float(), images, case[4], case[5]), wide_out)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("case", [(2, 3, 2, 2, 2, 4, ""), (2, 1, 2, 3, 3, 256, ""), (2, 2, 2, 2, None, 5, "")], ids=str)
def test_gradcheck(case: tuple, backend: str) -> None:
    params, images, _ = make_inputs((*case[:6], "contiguous"))

    def function(p: Tensor) -> Tensor:
        return ops.logistic_mixture(p, images, case[4], case[5], -3.0, backend)  # raises about a third

    params = params + 1e-3 * (params + 3).abs().lt(1e-3)  # no log-scale on the kink
    assert torch.autograd.gradcheck(function, (params.requires_grad_(),))


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("components", [None, 2])
def test_extreme_parameters(components: int | None, dtype: torch.dtype, backend: str) -> None:
    """Every combination is finite, forward and backward, and what float64 says it is."""
    log_scales = torch.tensor([-1e4, -100.0, -20, -7, 7, 20, 100, 1e4])
    means = torch.tensor([0.0, 1, -1, 3, -1e3, 1e10, -1e30])
    params = torch.stack(torch.meshgrid(means, log_scales, indexing="ij"))[None]  # [1, 2, 7, 8]
    if components:
        logits = torch.tensor([1e4, -1e4])[None, :, None, None].expand(1, 2, 7, 8)
        params = torch.cat([logits, params[:, :1], params[:, :1] / 2, params[:, 1:], params[:, 1:]], 1)
    params = params.to(dtype)
    case = (1, 1, 7, 8, components, 256, "contiguous")
    for level in (0, 1, 127, 254, 255):
        images = torch.full((1, 1, 7, 8), level, dtype=torch.uint8)
        grad = torch.ones((1, 1, 7, 8) if components is None else (1, 7, 8), dtype=dtype)
        actual = run(partial(ops.logistic_mixture, backend=backend), params, images, grad, case, NONE)
        truth = run_reference(params.double(), images, grad.double(), case, NONE)
        assert all(bool(t.isfinite().all()) for t in actual)
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
        torch.testing.assert_close(actual[0].double(), truth[0], **tolerance)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_tiny_probabilities_keep_value_and_gradient(backend: str) -> None:
    """Where public code switches to a density: 1000 scales away ln P falls by 1 a scale, so its gradient is 1 / s."""
    mean, log_s = torch.tensor(-1.0, dtype=torch.float32), -6.0
    params = torch.stack([mean, torch.tensor(log_s)]).view(1, 2, 1, 1).requires_grad_()
    images = torch.full((1, 1, 1, 1), 200, dtype=torch.uint8)
    out = ops.logistic_mixture(params, images, backend=backend)
    with localcontext(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN):
        exact = in_decimals([-1.0, log_s], [200], None, 256)
    assert out.item() == pytest.approx(float(exact[0]), rel=1e-6)
    (grad,) = torch.autograd.grad(out.sum(), params)
    assert grad[0, 0].item() == pytest.approx(math.exp(6), rel=1e-6)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_nan_stays_nan_and_stays_where_it_is(backend: str) -> None:
    for case in ((2, 3, 4, 5, 3, 256, "contiguous"), (2, 3, 4, 5, None, 256, "contiguous")):
        params, images, grad = make_inputs(case, torch.float32)
        clean = run(partial(ops.logistic_mixture, backend=backend), params, images, grad, case)
        for channel in range(params.shape[1]):
            poisoned = params.clone()
            poisoned[1, channel, 2, 3] = math.nan
            out, dparams = run(partial(ops.logistic_mixture, backend=backend), poisoned, images, grad, case)
            bad = out.isnan().flatten(1, -3) if case[4] is None else out.isnan()
            assert bad.any(1)[1, 2, 3] if case[4] is None else bad[1, 2, 3]
            assert int(bad.sum()) == 1
            others = torch.ones(2, 4, 5, dtype=torch.bool)
            others[1, 2, 3] = False
            assert torch.equal(dparams.movedim(1, -1)[others], clean[1].movedim(1, -1)[others])


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
@pytest.mark.parametrize("components", [None, 2])
def test_empty_maps(components: int | None, shape: tuple[int, int, int, int], backend: str) -> None:
    b, c, h, w = shape
    params = torch.randn(b, param_channels(c, components), h, w, requires_grad=True)
    out = ops.logistic_mixture(params, torch.zeros(shape, dtype=torch.uint8), components, backend=backend)
    assert out.shape == (shape if components is None else (b, h, w))
    (grad,) = torch.autograd.grad(out.sum(), params)
    assert grad.shape == params.shape


@needs_extension
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_other_instruction_sets(isa: str) -> None:
    rerun_on(isa, "cpu and (equal_reference or sum_to_one or extreme or bits)", __file__)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_cpu_bits_do_not_depend_on_batch_threads_or_place(layout: str, dtype: torch.dtype) -> None:
    """Large enough that threads are used; a pixel alone has the bits that it has in the image."""
    case = (9, 3, 13, 17, 10, 256, layout)
    params, images, grad = make_inputs(case, dtype)
    operator, grad = partial(ops.logistic_mixture, backend="cpu"), grad.float()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        once = run(operator, params, images, grad, case)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            again = run(operator, params, images, grad, case)
            assert all(torch.equal(a, b) for a, b in zip(again, once, strict=True))
            for b in (0, 4, 8):
                one = run(operator, params[b : b + 1], images[b : b + 1], grad[b : b + 1], case)
                assert all(torch.equal(a[0], c[b]) for a, c in zip(one, once, strict=True))
        part = (slice(3, 4), slice(None), slice(12, 13), slice(5, 6))
        pixel = run(operator, params[part], images[part], grad[3:4, 12:13, 5:6], case)
        assert torch.equal(pixel[0], once[0][3:4, 12:13, 5:6])
        assert torch.equal(pixel[1], once[1][part])
    finally:
        torch.set_num_threads(before)


@needs_extension
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("components", [None, 2])
def test_opcheck(components: int | None, dtype: torch.dtype, layout: str) -> None:
    params, images, grad = make_inputs((2, 3, 3, 4, components, 256, layout), dtype)
    how = (components or 0, 256, -7.0, BACKENDS.index("cpu"))
    grad = grad.to(torch.promote_types(dtype, torch.float32))
    torch.library.opcheck(torch.ops.genfast.logistic_mixture, (params.requires_grad_(), images, *how))
    torch.library.opcheck(torch.ops.genfast.logistic_mixture_bwd, (grad, params.detach(), images, *how))


@needs_extension
@pytest.mark.slow
def test_torch_compile_gives_one_graph_and_the_same_numbers() -> None:
    case = (2, 3, 5, 7, 2, 256, "contiguous")
    params, images, grad = make_inputs(case, torch.float32)

    def function(p: Tensor, i: Tensor, *rest: object) -> Tensor:
        return 2 * ops.logistic_mixture(p, i, *rest, backend="cpu")  # type: ignore[arg-type]

    expected = run(function, params, images, grad, case)
    actual = run(torch.compile(function, fullgraph=True), params, images, grad, case)
    torch.testing.assert_close(actual, expected)


@pytest.mark.slow
def test_torch_compile_of_the_reference_is_as_exact_as_the_reference() -> None:
    """It adds up in another order, so both are compared with float64."""
    case = (2, 3, 5, 7, 2, 256, "contiguous")
    params, images, grad = make_inputs(case, torch.float32)

    def function(p: Tensor, i: Tensor, *rest: object) -> Tensor:
        return 2 * ops.logistic_mixture(p, i, *rest, backend="reference")  # type: ignore[arg-type]

    exact = run(function, params.double(), images, grad.double(), case)
    eager = run(function, params, images, grad, case)
    compiled = run(torch.compile(function, fullgraph=True), params, images, grad, case)
    for truth, one, other in zip(exact, eager, compiled, strict=True):
        size = torch.finfo(torch.float32).eps * truth.abs().max()
        assert (other - truth).abs().max() <= 4 * (one - truth).abs().max() + 4 * size


@needs_extension
def test_cpu_refuses_what_does_not_fit_in_a_sentence() -> None:
    """The operator itself, for those who call it without the wrapper."""
    params, images = torch.randn(2, 10, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    operator, bwd = torch.ops.genfast.logistic_mixture, torch.ops.genfast.logistic_mixture_bwd
    for call, message in [
        (lambda: operator(params[:, :9], images, 1, 256, -7.0, 1), "params must have 10 channels, not 9"),
        (lambda: operator(params, images[:, :2], 1, 256, -7.0, 1), "1 components do not fit 2 channels"),
        (lambda: operator(params, images.long(), 1, 256, -7.0, 1), "as uint8"),
        (lambda: operator(params.half(), images, 1, 256, -7.0, 1), "takes float32, float64 or bfloat16"),
        (lambda: operator(params, images, 1, 256, -7.0, 2), "backend 2 does not run on CPU tensors"),
        (lambda: bwd(torch.randn(2, 4, 3), params, images, 1, 256, -7.0, 1), "grad must have"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            call()


def test_without_the_extension_auto_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfast.ops.backends.NO_EXTENSION", "the extension is not built")
    params, images, _ = make_inputs(CASES[2], torch.float32)
    assert torch.equal(ops.logistic_mixture(params, images, 10), reference(params, images, 10, 256, -7.0))
    with pytest.raises(RuntimeError, match="The cpu backend is not available here: the extension is not built"):
        ops.logistic_mixture(params, images, 10, backend="cpu")


def test_bad_inputs_are_sentences() -> None:
    params, images = torch.randn(2, 10, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for bad, message in [
        ((params[0], images, 1), r"must be \[B, P, H, W\] and \[B, C, H, W\], but have 3 and 4 dimensions"),
        ((params, images.long(), 1), "images must hold levels as torch.uint8, not torch.int64"),
        ((params.half(), images, 1), r"params must be float32, float64 or bfloat16 \(on a GPU .+\), not torch.float16"),
        ((params, images, 1, 257), "levels must be 2 to 256, not 257"),
        ((params, images[:1], 1), "must agree in B, H and W"),
        ((params, images, 0), "components must be at least 1, or None"),
        ((params, images[:, :2], 1), "images of 1 or 3 channels, not 2: use components=None"),
        ((params, images, 2), "params must have 20 channels for 2 components and images of 3 channels, not 10"),
        ((params, images), "params must have 6 channels for one logistic a channel"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.logistic_mixture(*bad)
    for backend in RUNNABLE:
        with pytest.raises(RuntimeError, match="images must hold levels 0 to 3, but hold 7"):
            ops.logistic_mixture(params, images + 7, 1, 4, backend=backend)
    with pytest.raises(RuntimeError, match="The triton backend is not available here: "):
        ops.logistic_mixture(params, images, 1, backend="triton")
