"""FLOPs and bytes: formulas against counts by hand, of whole models too."""

import pytest
import torch
from torch import nn

import genfast
from genfast.compiler.cost import cost, kernel_costs
from genfast.kernels.common.work import Work
from genfast.kernels.logistic_mixture import work as mixture
from genfast.kernels.lstm import work as lstm
from genfast.kernels.masked_conv2d.mask import causal_mask
from genfast.kernels.masked_conv2d.work import active_weights, work
from genfast.models import (
    Autoencoder,
    AutoencoderConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelRNN,
    PixelRNNConfig,
)
from genfast.profiling.recorder import Recorder
from genfast.profiling.work import call_work
from genfast.testing.cases import MASKED_CONV2D_CASES

SHAPE, PIXELS = (1, 4, 5), 20
CNN = PixelCNNConfig(SHAPE, levels=3, hidden=2, blocks=1, head=3, first_kernel=3)
RNN = PixelRNNConfig(SHAPE, levels=3, variant="row", hidden=2, layers=1, head=3, first_kernel=3, kernel=3)
CODER = AutoencoderConfig(SHAPE, levels=3, network="mlp", latent=2, hidden=3, hidden_layers=1)

# Weights of each layer that are not masked: inputs x outputs x taps.
HEAD = 4 * 3 + 3 * 3 + 3 * 3
CNN_FIRST, CNN_BLOCK = 1 * 4 * 4, 4 * 2 + 2 * 2 * 5 + 2 * 4
CNN_WEIGHTS = CNN_FIRST + CNN_BLOCK + HEAD
RNN_WEIGHTS = 1 * 4 * 4 + 4 * 8 * 2 + 2 * 8 * 3 + 2 * 4 + HEAD  # first, input to state, state to state, up
CODER_WEIGHTS = 20 * 3 + 3 * 2 + 2 * 3 + 3 * 20


def recorded(run) -> Work:
    with Recorder() as recorder:
        run()
    return sum((calls.work for calls in recorder.finish()), Work())


def images(batch):
    return torch.randint(0, 3, (batch, *SHAPE), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("model", "weights", "positions"),
    [
        (PixelCNN(CNN), CNN_WEIGHTS, PIXELS),
        (PixelRNN(RNN), RNN_WEIGHTS, PIXELS),
        (Autoencoder(CODER), CODER_WEIGHTS, 1),
    ],
    ids=["pixelcnn", "pixelrnn", "autoencoder"],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_flops_of_three_models_are_those_counted_by_hand(model, weights, positions, mode) -> None:
    def score() -> None:
        with mode():
            model.score(images(2))

    assert recorded(score).flops == 2 * weights * positions * 2


def test_flops_of_a_training_step_are_those_counted_by_hand() -> None:
    model = PixelCNN(CNN)

    def step() -> None:
        model.training_loss(images(2), None, 0)[0].sum().backward()

    # Forward, the gradient of the weights, and that of the input, which the image does not want.
    assert recorded(step).flops == 2 * (CNN_WEIGHTS + CNN_WEIGHTS + CNN_WEIGHTS - CNN_FIRST) * PIXELS * 2


# In a 4 x 5 image the taps up left, up, up right and left are there at 12, 15, 12 and 16 pixels.
ABOVE, LEFT = 12 + 15 + 12, 16


def test_flops_of_drawing_are_those_counted_by_hand() -> None:
    cnn = (ABOVE + LEFT) * 4 + (ABOVE + LEFT + PIXELS) * 2 * 2 + PIXELS * (4 * 2 + 2 * 4 + HEAD)
    rnn = (ABOVE + LEFT) * 4 + (LEFT + PIXELS) * 4 * 8 + ABOVE * 2 * 8 + PIXELS * (2 * 4 + HEAD)
    for model, products in ((PixelCNN(CNN), cnn), (PixelRNN(RNN), rnn)):
        plan = genfast.compile_sampler(model.eval(), engine="eager").plan
        assert cost(plan).flops == 2 * products
        assert sum(k.flops for k in kernel_costs(plan)) == 2 * products


def test_weights_of_drawing_go_by_once_a_launch() -> None:
    plan = genfast.compile_sampler(PixelCNN(CNN).eval(), engine="eager").plan
    prices = kernel_costs(plan)
    assert sum(k.weights for k in prices) == cost(plan).weight_numbers == CNN_WEIGHTS
    assert sum(k.launches for k in prices) == len(plan.launch_tick)
    assert all(k.weight_reads == k.weights * k.launches for k in prices)
    # Each parameter is stored once; those of a pixel are read by its draw, and not by kernels.
    head = prices[-1]
    assert (head.positions, head.stored_numbers, head.read_numbers) == (PIXELS, PIXELS * 3, PIXELS * 3)


@pytest.mark.parametrize("case", MASKED_CONV2D_CASES, ids=lambda case: case.id)
def test_masked_conv2d_counts_the_weights_that_its_mask_keeps(case) -> None:
    mask = causal_mask(case.out_channels, case.in_channels, case.kernel_size, case.mask_type, case.color_groups)
    how = (case.out_channels, case.in_channels, case.kernel_size, case.mask_type, case.color_groups)
    assert active_weights(*how) == int(mask.sum())
    assert work(7, *how).flops == 14 * int(mask.sum())


def test_recurrences_and_mixtures() -> None:
    assert lstm.forward(20, 2, 3) == Work(flops=2 * 20 * 8 * 2 * 3, exponentials=20 * 5 * 2)
    assert lstm.backward(20, 2, 3).flops == 2 * lstm.forward(20, 2, 3).flops
    assert mixture.work(4, 3, 0).exponentials == 4 * 3 * 4
    assert mixture.work(4, 1, 2).exponentials == 4 * 2 * (3 + 2)
    assert mixture.work(4, 3, 2).exponentials == 4 * 2 * (9 + 3 + 2)


def test_gradients_of_every_operator_have_formulas() -> None:
    """One name in the table for each schema, so that nothing is counted as free."""
    from genfast.ops.work import FORMULAS

    schemas = {s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith("genfast::")}
    own = {name for name in schemas if not name.endswith(("_cpu", "_cuda"))}
    assert own == set(FORMULAS)


aten = torch.ops.aten
TEN = torch.zeros(10)


@pytest.mark.parametrize(
    ("func", "args", "expected"),
    [
        (aten.add.Tensor, (TEN, TEN), 120),
        (aten.add_.Tensor, (TEN.clone(), TEN), 120),  # read and written, and the other
        (aten.relu.default, (TEN,), 80),
        (aten.copy_.default, (TEN.clone(), TEN), 80),
        (aten.zero_.default, (TEN.clone(),), 40),
        (aten.view.default, (TEN, [2, 5]), 0),
        (aten.empty.memory_format, ([10],), 0),
        (aten.add.Tensor, (TEN, torch.zeros(1).expand(10)), 84),  # one number, seen ten times
        (aten.embedding.default, (torch.zeros(1000, 5), torch.tensor([1, 2])), 2 * 40 + 16),  # two rows and two indices
        (aten._foreach_mul_.Scalar, ([TEN.clone(), TEN.clone()], 2.0), 160),
    ],
)
def test_bytes_are_what_goes_in_and_what_comes_out(func, args, expected) -> None:
    assert call_work(func, args, {}, func(*args)).bytes == expected


def test_exponentials_of_elementwise_operators() -> None:
    assert call_work(aten.tanh.default, (TEN,), {}, aten.tanh(TEN)).exponentials == 10
    assert call_work(aten.relu.default, (TEN,), {}, aten.relu(TEN)).exponentials == 0


def test_composite_operators_are_taken_apart_and_views_left_out() -> None:
    layer, x = nn.Linear(3, 4), torch.zeros(2, 3)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), Recorder() as recorder:
            layer(x).view(8)
        (calls,) = recorder.finish()
        assert (calls.operator, calls.count, calls.work.flops) == ("aten::addmm", 1, 2 * 2 * 3 * 4)
