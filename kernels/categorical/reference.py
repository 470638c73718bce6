"""The log-probability of drawn levels in plain PyTorch. ``genfast.likelihoods.draw`` defines the draws."""

from torch import Tensor


def log_prob(logits: Tensor, levels: Tensor) -> Tensor:
    """logits [M, L], levels int64 [M] -> float64 [M]"""
    return logits.double().log_softmax(-1).gather(-1, levels[:, None])[:, 0]
