"""reduce: something over all numbers of a row.

    sum, max, min                                                               # [M, N] -> [M, 1]
    standardize   (x - mean) / sqrt(variance + eps)                             # [M, N] -> [M, N]
    softmax, log_softmax                                                        # [M, N] -> [M, N]

One line of PyTorch each; see reference.py. Layer normalisation without its weights is "standardize". It serves the CPU
sampling engine and is no operator of its own.
"""
