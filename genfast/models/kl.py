"""The KL divergence of a Gaussian posterior from the standard normal prior, and how much of it a VAE is made to pay."""

from dataclasses import dataclass

from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each dimension, in nats: (mean^2 + variance - 1 - ln variance) / 2.

    Kingma & Welling 2014 (arXiv 1312.6114), appendix B. ln variance is taken as it is: variance = 1 loses nothing.
    """
    return 0.5 * (mean.square() + log_variance.expm1() - log_variance)


@dataclass(frozen=True)
class KLSchedule:
    """The KL term of the loss at a training step: weight(step) * sum over dimensions of max(free_bits, mean KL).

    beta: the final weight (Higgins et al. 2017: above 1 for independent dimensions; 1 is the ELBO).
    free_bits: nats of each dimension that cost nothing; the mean is over the batch (Kingma et al. 2016, arXiv
    1606.04934, equation 15 with one dimension in each group). 0 is the ELBO.
    warmup_steps: steps over which the weight climbs linearly from 0 to beta (Sonderby et al. 2016).
    """

    beta: float = 1.0
    free_bits: float = 0.0
    warmup_steps: int = 0

    def weight(self, step: int) -> float:
        """The weight at a step counted from 0."""
        return self.beta if step >= self.warmup_steps else self.beta * step / self.warmup_steps

    def __call__(self, kl: Tensor, step: int) -> Tensor:
        """What each image pays, in nats, for the KL [B, Z] of its dimensions.  # [B]

        With free bits every image pays the same: what is free depends on the batch, not on one image.
        """
        if self.free_bits == 0:
            return self.weight(step) * kl.sum(1)
        return self.weight(step) * kl.mean(0).clamp(min=self.free_bits).sum().expand(len(kl))
