"""common: what several operators share. Headers for C++ and CUDA (kernels/README.md lists them), and for Triton

triton_math.py     exp, log, tanh and the logistic function, the formulas of math.h
triton_launch.py   a kernel with its grid and arguments, and what every launcher asks of a tensor
"""
