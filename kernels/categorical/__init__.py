"""categorical: draws levels from rows of logits, and their log-probabilities.

    P(l) = exp(logit[l]) / sum over m of exp(logit[m])                          # logits [M, levels] -> levels [M]

Drawing is the inverse of the distribution function, with temperature, top-k and top-p, as
``genfast.likelihoods.draw.draw_levels`` defines it; the log-probability is that of the distribution without those. Both
are computed in float64 from float32 logits. A bernoulli distribution is one of the two levels with logits (0, logit).

draw.h draws from the logits of all levels; kernels/logistic_mixture uses it too.
"""
