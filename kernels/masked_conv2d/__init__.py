"""masked_conv2d: a causal convolution that never computes a masked tap.

    y = F.conv2d(x, weight * mask, bias, padding=(kh // 2, kw // 2))            # [B, I, H, W] -> [B, O, H, W]

mask.py           which taps a mask keeps: always a prefix in raster order, so a mask is a number
reference.py      plain PyTorch, the truth of every test
cpu.h/.cpp        raw pointers over kernels/tap_gemm, once per instruction set
triton_kernel.py  Triton's kernels; triton_launch.py launches them
cuda_kernels.cuh  CUDA's kernels; cuda.cuh/.cu launch them

Forward is tap_gemm with the pixels of a row as M; the input gradient is the same with the taps mirrored and the weights
transposed; the weight gradient is tap_gemm with the input channels as M and the pixels as K. With T of kh * kw taps
the work is 2 * B * H * W * I * O * T FLOPs for each of the three.
"""
