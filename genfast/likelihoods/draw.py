"""Drawing levels from logits: temperature, top-k, top-p and the inverse of the distribution function, in one place.

Every likelihood and every sampler draws through ``draw_levels``, so the same logits and the same uniforms give the same
levels everywhere.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from genfast.errors import GenfastError

# Rows of levels handled at a time hold at most so many logits: the float64 work space then stays near 100 MB even for a
# batch of RGB images of 256 levels. The draw is elementwise, so slicing changes no result.
SLICE = 1 << 21
NO_DISTRIBUTION = (
    "The network's output is not a distribution: it holds NaN or infinity; "
    "check that the weights are finite and that training did not diverge."
)


def check_draw_options(temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> None:
    """Raises GenfastError, in one sentence, for a temperature, top_k or top_p that means nothing."""
    if not (math.isfinite(temperature) and temperature >= 0):
        raise GenfastError(f"temperature must be 0 (the most probable level) or a positive number, not {temperature}.")
    if top_k is not None and (isinstance(top_k, float) or top_k < 1):
        raise GenfastError(f"top_k must be a whole number of levels, at least 1, not {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise GenfastError(f"top_p must be a probability above 0 and at most 1, not {top_p}.")


def check_finite(params: Tensor) -> None:
    """Raises GenfastError if a distribution's parameters hold NaN or infinity. On a GPU this waits for it."""
    if not bool(torch.isfinite(params).all()):
        raise GenfastError(NO_DISTRIBUTION)


def check_uniforms(uniforms: Tensor) -> None:
    """Raises GenfastError for a uniform outside [0, 1)."""
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise GenfastError("Uniforms must lie in [0, 1).")


def draw_levels(
    logits: Tensor,
    uniforms: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """The levels at which the distribution function passes the uniforms: the smallest l with u < F(l).

    logits [B, levels, ...], unnormalised log-probabilities; uniforms float64 [B, ...] in [0, 1); int64 [B, ...] out.
    P(l) is proportional to exp(logit(l) / temperature), computed in float64, and F adds it up in level order.
    Temperature 0 is the most probable level. top_k keeps the k most probable levels, top_p the fewest most probable
    ones whose probabilities reach top_p (both measured on the tempered distribution; with both, a level must pass
    both), and what is kept is renormalised. Wherever levels tie, the lower level counts as the more probable.

    Raises GenfastError for options without meaning, shapes that do not match, uniforms outside [0, 1), and logits that
    are no distribution (NaN, plus infinity, or minus infinity at every level).
    """
    check_draw_options(temperature, top_k, top_p)
    if logits.ndim < 2 or logits.shape[:1] + logits.shape[2:] != uniforms.shape:
        raise GenfastError(
            f"Each draw needs its own uniform: logits {list(logits.shape)} want uniforms "
            f"{list(logits.shape[:1] + logits.shape[2:])}, not {list(uniforms.shape)}."
        )
    check_uniforms(uniforms)

    out = torch.empty(uniforms.shape, dtype=torch.int64, device=logits.device)
    per_image = max(1, logits[:1].numel())
    step = max(1, SLICE // per_image)
    for i in range(0, logits.shape[0], step):
        rows = logits[i : i + step].movedim(1, -1).to(torch.float64).contiguous()  # [b, ..., levels]
        out[i : i + step] = _draw_rows(rows, uniforms[i : i + step].to(rows), temperature, top_k, top_p)
    return out


def _draw_rows(logits: Tensor, uniforms: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """As draw_levels, with the levels in the last dimension."""
    top = logits.amax(-1, keepdim=True)
    check_finite(top)  # amax passes NaN on, and is infinite for both kinds of infinity
    if temperature == 0:
        return logits.argmax(-1)  # the first of equals
    weights = ((logits - top) / temperature).exp_()  # at most 1: cannot overflow
    keep = _kept(logits, weights, top_k, top_p)
    if keep is not None:
        weights = weights * keep
    cdf = weights.cumsum(-1)
    # u < 1 strictly, and so u * total < total: the answer is a level whose own weight is positive.
    target = uniforms[..., None] * cdf[..., -1:]
    return torch.searchsorted(cdf, target, right=True)[..., 0]


def _kept(logits: Tensor, weights: Tensor, top_k: int | None, top_p: float | None) -> Tensor | None:
    """Which levels survive top_k and top_p, or None for all of them.  # [..., levels] bool"""
    levels = logits.shape[-1]
    if (top_k is None or top_k >= levels) and (top_p is None or top_p == 1):
        return None
    # Sorting the logits, not the weights: levels whose weights round to the same number still have an order.
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    first = torch.ones_like(order, dtype=torch.bool)  # by rank: both rules keep a first part of the ranking
    if top_k is not None:
        first[..., top_k:] = False
    if top_p is not None and top_p < 1:
        mass = weights.gather(-1, order).cumsum(-1)
        before = F.pad(mass[..., :-1], (1, 0))  # of all levels that are more probable
        first &= before < top_p * mass[..., -1:]
    return torch.zeros_like(first).scatter_(-1, order, first)
