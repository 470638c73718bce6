"""tap_gemm: a sum of small matrix products, one for each tap of a filter.

    out[m, :] = bias + sum over taps t of A_t[m, :] @ W_t                       # A_t [M, K], W_t [K, N], out [M, N]

One line of PyTorch: ``bias + sum(a @ w for a, w in zip(taps, weights))``. With activations stored pixel-major, a
convolution over a row of an image, one pixel of a batch, and one step of a recurrence are all this product, with no
gather and no im2col. It is the inner kernel of the CPU operators and of the sampler's engines, not an
operator of its own.
"""
