"""logistic_mixture: the log-probability of levels under discretized logistics, one a channel or a mixture a pixel.

    P(l) = sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)       x = 2 l / (L - 1) - 1,  h = 1 / (L - 1)
    P(0) and P(L - 1) reach to minus and plus infinity                     (arXiv 1701.05517, equation 2)

    one logistic a channel     ln P(level)                                                                [B, C, H, W]
    mixture, C = 1 or 3        ln sum over k of pi_k * P_k(r) P_k(g) P_k(b)                               [B, H, W]
                               mean of g += c0 x_r;  mean of b += c1 x_r + c2 x_g                         (equation 3)

No line of PyTorch does this; reference.py has it in thirty. What keeps it exact where others approximate (a density at
the middle of the bin where P < 1e-5):

    sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)),      b - a = 2 h / s

Three factors whose logarithms are all negative, so nothing cancels, and b - a is never a difference. Places are counted
in half bins (x and mean times L - 1): the edges of the bins are then whole numbers, the upper edge of one bin and the
lower edge of the next the same number, and the probabilities of all levels add up to 1 however narrow the logistic.

reference.py   plain PyTorch: the truth of every test
bin.h          one logistic and one bin of it, for a vector of pixels
cpu.h tile.h cpu.cpp  tiles of pixels, mixtures, gradients
draw.h draw.cpp   draws sub-pixels, for the CPU sampling engine; genfast.likelihoods.LogisticMixture is its reference
triton_kernel.py, triton_launch.py   the same on a GPU: tiles of pixels by components
cuda_bin.cuh, cuda_kernels.cuh, cuda.cuh, cuda.cu   and in CUDA C++: tiles in shared memory

It reads P numbers a pixel once (backward also writes as many) and computes per logistic three exponentials, one
division and for three colours a tanh, per component two exponentials, per pixel one logarithm.
"""
