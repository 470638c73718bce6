"""gated_activation: the gate of Gated PixelCNN, tanh of one half of the features times the sigmoid of the other.

    out = tanh(f) * sigmoid(g)        f, g = x.chunk(2, 1)                  x [B, 2h, H, W] -> out [B, h, H, W]

(arXiv 1606.05328, equation 2). With colour groups each group of x holds its f, then its g, so that a gate mixes no two
colours. The one-line PyTorch equivalent for one group is

    torch.tanh(x[:, :h]) * torch.sigmoid(x[:, h:])

In either memory format x is then the same thing: runs of f, each followed by as many of g (``run``), so one loop
computes every case. PyTorch makes three passes forward and writes both factors to memory for backward; here one pass
reads 2h numbers a pixel and writes h, and backward one reads 3h and writes 2h.

reference.py   plain PyTorch: the truth of every test
cpu.h, cpu.cpp   a range of the results, for a thread
triton_kernel.py, triton_launch.py   the same on a GPU, which needs no CUDA C++ for it: there is nothing to share out
"""
