// The cell of cell.h for one hidden channel, in CUDA C++ (formulas in __init__.py). Its error is that of CUDA's own exp
// and tanh; finite for finite arguments.
#pragma once

#include "common/cuda_math.cuh"

namespace genfast::cuda {

template <typename T>
struct Gates {
    T i, f, g, o;
};

// Pre-activations -> gates after their nonlinearity.
template <typename T>
__device__ inline Gates<T> activate(const Gates<T>& a) {
    return {sigmoid_of(a.i), sigmoid_of(a.f), tanh_of(a.g), sigmoid_of(a.o)};
}

template <typename T>
__device__ inline T next_c(const Gates<T>& a, T c_prev) {
    return fma_of(a.f, c_prev, a.i * a.g);
}

// dh and dc (what reaches c through later cells alone) -> the gradients of the pre-activations and, in dc, of c_prev.
template <typename T>
__device__ inline Gates<T> cell_bwd(const Gates<T>& a, T c, T c_prev, T dh, T* dc) {
    const T tanh_c = tanh_of(c);
    const T d = *dc + dh * a.o * (T(1) - tanh_c * tanh_c);
    *dc = d * a.f;
    return {d * a.g * (a.i * (T(1) - a.i)), d * c_prev * (a.f * (T(1) - a.f)), d * a.i * (T(1) - a.g * a.g),
            dh * tanh_c * (a.o * (T(1) - a.o))};
}

}  // namespace genfast::cuda
