"""Mixture of discretized logistics: the likelihood of PixelCNN++."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast import ops
from genfast.errors import GenfastError
from genfast.kernels.logistic_mixture.reference import bin_log_prob, mixture, wide
from genfast.likelihoods.base import check_images
from genfast.likelihoods.discretized_logistic import Logistics

NOT_DRAWN = -1  # in the place of a level: this colour is not among the earlier ones


@dataclass(frozen=True)
class LogisticMixture(Logistics):
    """ln P(pixel) = ln sum over k of pi_k P_k(r) P_k(g) P_k(b), each a discretized logistic; given k, the mean of green
    moves linearly with red's level, that of blue with red's and green's: Salimans et al. 2017 (arXiv 1701.05517),
    equations 2 and 3. One channel or three.

    A whole pixel. The network's last layer says it all at once, [B, param_channels, H, W] in the order of the published
    models (``genfast.ops.logistic_mixture`` states it), and reads no colour of the pixel itself. ``log_prob_pixels``
    trains on that, in one fused operator, and ``draw_pixels`` samples from it, colour by colour.

    A sub-pixel. Each colour is a draw of its own, in the order R, G, B, with the component summed out: what the earlier
    colours tell about it is in the shares. (Published code draws a component, then the three colours from it: the same
    joint distribution once each colour is rounded before the next, but then a colour alone has no probability, and
    images cannot be completed or scored colour by colour as with every other likelihood.) As in every likelihood, its
    parameters are ``params[..., c, y, x]``: [B, rows, K], the rows logit, mean given the earlier colours, log-scale,
    and for three channels what the earlier colours tell about the component: (level, mean, log-scale) of red, then of
    green, the level -1 where that colour is not earlier. ``unpack`` lays them out, for which it must know the levels of
    three-channel images; log_prob_map and draw take them from there.
    P(g | r) then weighs component k by pi_k P_k(r), so the product over the colours is P(pixel).

    Draws invert the distribution function of the levels: what published code does by rounding a continuous sample to
    8 bits and clipping it, with one uniform per sub-pixel and none for the component.
    Temperature T divides the logits of the mixture and multiplies the scales, all of them, so that each component stays
    a logistic; T = 0 is the limit: the heaviest component, and the level nearest to its mean.
    """

    name: ClassVar[str] = "logistic_mixture"
    components: int = 10
    """Logistics in the mixture of a pixel: K in the paper."""
    min_log_scale: float = -7.0
    """Smaller log-scales are raised to this, as in the published code; -inf raises none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3):
            raise GenfastError(f"A logistic_mixture is for images of 1 or 3 channels, not {self.channels}.")
        if self.components < 1:
            raise GenfastError(f"A logistic_mixture needs at least one component, not {self.components}.")

    @property
    def numbers(self) -> int:
        """Numbers that a component of a pixel has in the network's output."""
        return 3 if self.channels == 1 else 10

    @property
    def param_channels(self) -> int:
        return self.components * self.numbers

    @property
    def rows(self) -> int:
        """Numbers that a component of a sub-pixel has; see the class."""
        return 3 if self.channels == 1 else 9

    @property
    def param_shape(self) -> tuple[int, ...]:
        return self.rows, self.components

    def unpack(self, out: Tensor, images: Tensor | None = None) -> Tensor:
        """[B, param_channels, H, W] and levels [B, C, H, W] -> [B, rows, K, C, H, W], float32 or better.

        Reads of the images only what is earlier than the colour at hand; one-channel images need not be given. Levels
        may be floats, whole or not, for gradients. Raises GenfastError for other shapes, levels that are not there, or
        colour images that are missing.
        """
        self._check_out(out)
        if self.channels == 1:
            images = out.new_zeros((out.shape[0], 1, *out.shape[2:]), dtype=torch.uint8)
        elif images is None:
            raise GenfastError(
                "The parameters of green and blue depend on the levels before them: unpack(out, images) needs images."
            )
        else:
            self._check_pixels(out, images, images.is_floating_point())
        return self._unpack(out, images)

    def log_prob_pixels(self, out: Tensor, images: Tensor) -> Tensor:
        """ln P of whole pixels straight from the network's output, in nats.  # [B, H, W], differentiable

        ``genfast.ops.logistic_mixture``; the sum over H and W is ``log_prob(unpack(out, images), images)``.
        """
        self._check_out(out)
        self._check_pixels(out, images)
        return ops.logistic_mixture(
            out, images.to(torch.uint8), self.components, self.levels, min_log_scale=self.min_log_scale
        )

    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """ln P(sub-pixel | earlier colours); params [B, rows, K, C, H, W] -> [B, C, H, W].  Plain PyTorch."""
        self._check_params(params)
        self._check_pair(params.shape[:1] + params.shape[3:], images)
        params = params.to(wide(params.dtype))
        bins = bin_log_prob(
            images[:, None], params[:, 1] * (self.levels - 1), params[:, 2], self.levels, self.min_log_scale
        )
        return torch.logsumexp(self._log_weights(params) + bins, 1)

    def draw_pixels(
        self,
        out: Tensor,
        uniforms: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Whole pixels from the network's output, colour by colour as ``draw`` does.  # int64, of the uniforms' shape

        out [B, param_channels, ...], whole maps or ``out[..., y, x]``; uniforms [B, C, ...] in [0, 1).
        """
        if out.ndim < 2 or out.shape[1] != self.param_channels:
            raise GenfastError(f"out must be [B, {self.param_channels}, ...], not {list(out.shape)}.")
        if uniforms.shape != (out.shape[0], self.channels, *out.shape[2:]):
            raise GenfastError(
                f"Each draw needs its own uniform: [B, {self.channels}, ...] for out [B, {self.param_channels}, ...], "
                f"but they are {list(uniforms.shape)} and {list(out.shape)}."
            )
        levels = torch.zeros(uniforms.shape, dtype=torch.int64, device=out.device)
        for c in range(self.channels):
            params = self._unpack(out, levels)[:, :, :, c]
            levels[:, c] = self.draw(params, uniforms[:, c], temperature, top_k, top_p)
        return levels

    def _unpack(self, out: Tensor, images: Tensor) -> Tensor:
        """As ``unpack``, with any dimensions in the place of H, W."""
        rest = out.shape[2:]
        out, images = (x.flatten(2) if rest else x[..., None] for x in (out.to(wide(out.dtype)), images))
        logits, places, log_scales = mixture(out, images, self.components, self.levels)
        means = places / (self.levels - 1)  # [B, C, K, H * W]
        own = torch.stack([logits[:, None].expand_as(means), means, log_scales], 1)  # [B, 3, C, K, H * W]
        rows = [own]
        for c in range(self.channels - 1):  # c as an earlier colour
            level = images[:, c, None, None].to(means.dtype).expand_as(means)
            later = torch.arange(self.channels, device=out.device)[:, None, None] > c
            level = torch.where(later, level, NOT_DRAWN)
            # What is not earlier is left out of the rows too: nothing can depend on it.
            seen = [torch.where(later, x[:, c, None], 0) for x in (means, log_scales)]
            rows.append(torch.stack([level, *seen], 1))
        params = torch.cat(rows, 1).transpose(2, 3)  # [B, rows, K, C, H * W]
        return params.unflatten(-1, rest) if rest else params[..., 0]

    def _log_weights(self, params: Tensor, temperature: float = 1.0) -> Tensor:
        """ln of each component's share given the earlier colours.  # [B, K, ...]"""
        weights = params[:, 0] / temperature
        for row in range(3, self.rows, 3):
            level, mean, log_scale = params[:, row : row + 3].unbind(1)
            log_scale = self._tempered(log_scale, temperature).to(params.dtype)
            seen = bin_log_prob(level.clamp(min=0), mean * (self.levels - 1), log_scale, self.levels, -math.inf)
            weights = weights + torch.where(level == NOT_DRAWN, 0, seen)
        return F.log_softmax(weights, 1)

    def _logistics(self, params: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        self._check_params(params)
        params = params.double()
        log_scales = self._tempered(params[:, 2], temperature)
        return self._log_weights(params, temperature), params[:, 1] * (self.levels - 1), log_scales

    def _check_pixels(self, out: Tensor, images: Tensor, floats: bool = False) -> None:
        if not floats:
            check_images(images, (self.channels, *out.shape[2:]), self.levels)
        elif images.shape[1:] != (self.channels, *out.shape[2:]):
            raise GenfastError(
                f"Levels for outputs {list(out.shape)} must have {self.channels} channels, not {list(images.shape)}."
            )
        if images.shape[0] != out.shape[0]:
            raise GenfastError(f"There are {out.shape[0]} sets of parameters for {images.shape[0]} images.")

    def _check_params(self, params: Tensor) -> None:
        if params.ndim < 3 or params.shape[1:3] != (self.rows, self.components):
            raise GenfastError(
                f"Parameters of this logistic_mixture have the shape [B, {self.rows}, {self.components}, ...], not "
                f"{list(params.shape)}: see unpack."
            )
