"""row_lstm: an LSTM that runs down the image, each pixel of a row reading k pixels of the row above.

    gates(y) = x[:, :, y] + F.conv1d(h(y - 1), weight, padding=k // 2)          # [B, 4h, W], in blocks i, f, g, o
    h(y), c(y) = cell(gates(y), c(y - 1))                                       # kernels/lstm

    x [B, 4h, H, W] the input-to-state pre-activations, weight [4h, h, k], k odd -> h [B, h, H, W]
    h0, c0 [h]: the row above the image, the same at every x; beyond its ends h is zero, as for every row

reference.py   plain PyTorch, pixel by pixel: the truth of every test, forward and backward
scan.h         which pixels the scan of kernels/lstm takes, for C++; scan.py and triton_launch.py for Python

The recurrent products cost 2 * B * H * W * 4h * h * k FLOPs, less those beyond the ends of a row.
"""
