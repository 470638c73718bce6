"""diagonal_lstm: an LSTM over the diagonals of the image, each pixel reading its left and its upper neighbour.

    gates(y, x) = x[:, :, y, x] + weight[:, :, 0] @ h(y - 1, x) + weight[:, :, 1] @ h(y, x - 1)   # blocks i, f, g, o
    h(y, x), c(y, x) = cell(gates(y, x), c(y, x - 1))                                             # kernels/lstm

    x [B, 4h, H, W] the input-to-state pre-activations, weight [4h, h, 2], taps (up, left) -> h [B, h, H, W]
    h0, c0 [h]: left of the image, the same at every y; above the image h is zero
    reverse: the mirror image, from right to left

In PyTorch: skew the map (row y moves y to the right), loop over the columns with F.conv1d of size 2 down each column,
and skew back. A skewed map has H + W - 1 columns of H pixels, of which the image fills H * W; here only those exist.

reference.py   plain PyTorch, pixel by pixel: the truth of every test, forward and backward
scan.h         which pixels the scan of kernels/lstm takes, for C++; scan.py and triton_launch.py for Python

The recurrent products cost 2 * B * H * W * 4h * h * 2 FLOPs.
"""
