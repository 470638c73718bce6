"""What logistic_mixture computes: three exponentials a logistic, a tanh a coefficient, two a component; without
components a logarithm for each logistic instead. Backward computes them again rather than keep them."""

from genfast.kernels.common.work import Work


def work(pixels: int, channels: int, components: int) -> Work:
    """Forward or backward. pixels: of all images together, B * H * W; components: 0 for one logistic a channel."""
    if components == 0:
        return Work(exponentials=pixels * 4 * channels)
    coefficients = 3 if channels == 3 else 0
    return Work(exponentials=pixels * components * (3 * channels + coefficients + 2))
