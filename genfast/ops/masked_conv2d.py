from torch import Tensor

from genfast.kernels.masked_conv2d.reference import masked_conv2d as reference


def masked_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, mask_type: str = "B", color_groups: int = 1) -> Tensor:
    return reference(x, weight, bias, mask_type, color_groups)
