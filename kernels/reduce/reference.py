"""Every reduction in plain PyTorch, over the last axis."""

from torch import Tensor


def reduce(kind: str, x: Tensor, eps: float = 0.0) -> Tensor:
    """x [..., N] -> [..., 1] for sum, max and min, otherwise [..., N]."""
    match kind:
        case "sum":
            return x.sum(-1, keepdim=True)
        case "max":
            return x.amax(-1, keepdim=True)
        case "min":
            return x.amin(-1, keepdim=True)
        case "standardize":
            off = x - x.mean(-1, keepdim=True)
            return off / (off.square().mean(-1, keepdim=True) + eps).sqrt()
        case "softmax":
            return x.softmax(-1)
        case "log_softmax":
            return x.log_softmax(-1)
    raise ValueError(f"There is no reduction {kind!r}.")
