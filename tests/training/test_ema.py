import torch
from torch import nn

from genfast.training.ema import AveragedModel


def test_average_follows_the_formula():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average = AveragedModel(model, 0.5)
    expected = model.weight.detach().double().clone()
    for step in range(1, 12):
        with torch.no_grad():
            model.weight.normal_()
        average.update(model, step)
        d = min(0.5, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * model.weight.detach().double()
    torch.testing.assert_close(average.model.weight.double(), expected, rtol=0, atol=1e-6)


def test_decay_zero_is_the_last_weights_and_buffers_are_copied():
    model = nn.BatchNorm1d(2)
    average = AveragedModel(model, 0.0)
    with torch.no_grad():
        model.weight.fill_(7.0)
        model.running_mean.fill_(3.0)
        model.num_batches_tracked.fill_(5)
    average.update(model, 1)
    assert average.model.weight.tolist() == [7.0, 7.0]
    assert average.model.running_mean.tolist() == [3.0, 3.0]
    assert int(average.model.num_batches_tracked) == 5


def test_the_average_is_a_separate_model_without_gradients():
    model = nn.Linear(2, 2)
    average = AveragedModel(model, 0.9)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert average.model.weight.data_ptr() != model.weight.data_ptr()
