"""lstm: one LSTM cell, forward and backward, and the scan over an image that the recurrent operators share.

    i, f, o = sigmoid(i), sigmoid(f), sigmoid(o);  g = tanh(g)          # [.., 4h] in blocks i, f, g, o, as in nn.LSTM
    c = f * c_prev + i * g                                              # equation 3 of van den Oord et al. 2016,
    h = o * tanh(c)                                                     # "Pixel Recurrent Neural Networks"

reference.py   the cell in plain PyTorch, and its derivative
scan.h         an image as lines of pixels: rows, or diagonals
cell.h         the cell for a vector of hidden channels
cpu.h/.cpp     the scan of a few images over kernels/tap_gemm, once per instruction set: forward.h and backward.h are
               its halves, layout.h says where packed weights lie
scan.py        a scan as backends on a GPU see it, and the gradients that are no recurrence
triton_kernel.py, triton_launch.py   cell and scan on a GPU: one program an image, no barrier but its own
cuda.cuh/.cu   the same in CUDA C++, weights in shared memory: cuda_cell.cuh is the cell, cuda_kernels.cuh the scan
"""
