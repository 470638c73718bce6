"""MaskedConv2d: nn.Conv2d plus a causal mask, without ever computing a masked tap."""

from typing import Any

import torch
from torch import Tensor, nn

from genfast import ops
from genfast.kernels.masked_conv2d.mask import causal_mask, check_mask


class MaskedConv2d(nn.Conv2d):
    """A causal convolution (van den Oord et al. 2016, section 3.4). Stride 1; zero padding keeps the size.

    Equivalent to ``F.conv2d(x, weight * mask, bias, padding=(kh // 2, kw // 2))`` on [B, I, H, W] -> [B, O, H, W], with
    parameters named as in nn.Conv2d, so state dicts load both ways. Masked weights are held at zero: they start there,
    get no gradient, and are zeroed on loading; a ``mask`` buffer in a loaded state dict must equal this one's mask.

    mask_type: "A", "B", or for a vertical stack "VA" (rows above) or "VB" (rows above and the row of the pixel).
    color_groups: 1, or 3 for R before G before B; the channels are then split in contiguous groups.

    Raises ValueError for an even kernel size or a mask that does not exist.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        mask_type: str = "B",
        color_groups: int = 1,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        check_mask((kh, kw), mask_type, color_groups)
        self.mask_type = mask_type
        self.color_groups = color_groups
        super().__init__(
            in_channels, out_channels, (kh, kw), padding=(kh // 2, kw // 2), bias=bias, device=device, dtype=dtype
        )

    def mask(self) -> Tensor:
        """Ones where the weight is used.  # [O, I, kh, kw]"""
        kh, kw = self.kernel_size
        mask = causal_mask(self.out_channels, self.in_channels, (kh, kw), self.mask_type, self.color_groups)
        return mask.to(self.weight)

    def reset_parameters(self) -> None:
        """As nn.Conv2d, but the fan-in counts only the taps that exist: otherwise activations shrink by about half."""
        super().reset_parameters()
        with torch.no_grad():
            mask = self.mask()
            kept = float(mask.mean())
            self.weight.mul_(mask)
            if kept > 0:
                self.weight.div_(kept**0.5)
                if self.bias is not None:
                    self.bias.div_(kept**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return ops.masked_conv2d(x, self.weight, self.bias, self.mask_type, self.color_groups)

    def extra_repr(self) -> str:
        groups = f", color_groups={self.color_groups}" if self.color_groups > 1 else ""
        bias = ", bias=False" if self.bias is None else ""
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{sizes}, mask_type={self.mask_type!r}{groups}{bias}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        errors = args[-1]
        mask = state_dict.pop(prefix + "mask", None)
        if mask is not None and not torch.equal(mask.to(self.weight).expand_as(self.weight), self.mask()):
            errors.append(f"{prefix}mask differs from mask {self.mask_type} with {self.color_groups} colour groups.")
        super()._load_from_state_dict(state_dict, prefix, *args)
        with torch.no_grad():
            self.weight.mul_(self.mask())
