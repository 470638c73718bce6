"""pointwise: one elementwise operation over rows of numbers.

    out[m, n] = op(a[m, n], b[m, n], c[m, n])                               # [M, N]; arguments may be [M, 1], [1, N]

One line of PyTorch: ``getattr(torch, op)(a, b, c)``. reference.py holds them all; cpu.h lists their names. Truth values
are 1 and 0. It is what the CPU sampling engine computes between matrix products, not an operator of its own.
"""
