"""What the scans of row_lstm and diagonal_lstm compute: at each pixel the products of the state with 4h x h x taps
weights, and five exponentials a hidden channel (three sigmoids, two tanh)."""

from genfast.kernels.common.work import Work


def forward(pixels: int, hidden: int, taps: int) -> Work:
    """pixels: of all images together, B * H * W. Taps beyond the edge count."""
    return Work(flops=2 * pixels * 4 * hidden * hidden * taps, exponentials=5 * pixels * hidden)


def backward(pixels: int, hidden: int, taps: int) -> Work:
    """The products twice, for the gradients of the states and of the weights; tanh(c) again."""
    return Work(flops=4 * pixels * 4 * hidden * hidden * taps, exponentials=pixels * hidden)
