// logistic_mixture in CUDA C++ for any NVIDIA GPU. Interface: cuda.cuh. The kernel: cuda_kernels.cuh. Here: how many
// pixels a block takes, and in which order it copies them.

#include "logistic_mixture/cuda.cuh"

#include <cmath>
#include <type_traits>

#include "common/cuda_launch.cuh"
#include "logistic_mixture/cuda_kernels.cuh"

namespace {

using genfast::cuda::blocks;
using genfast::cuda::launch;
using genfast::cuda::with_dtype;

constexpr int PIXELS = 32;               // of a tile, at most: one warp adds up their components
constexpr int64_t SHARED = 48 * 1024;    // bytes that every GPU gives a block
constexpr double LOWEST_LOG_SCALE = -60;  // as in reference.py

struct Sizes {
    int num_params, results, rows;
    int tile, row;  // 0 pixels where not even one fits
    int64_t bytes;
};

Sizes sizes_of(const LogisticMixtureShape& s, int64_t number) {
    Sizes out = {};
    out.num_params = s.components == 0 ? 2 * s.channels : s.components * (s.channels == 3 ? 10 : 3);
    out.results = s.components == 0 ? s.channels : 1;
    out.rows = Rows<float>::count(out.num_params, s.channels, out.results, s.components);
    for (out.tile = PIXELS; out.tile > 0; out.tile /= 2) {
        out.row = out.tile == 1 ? 1 : out.tile + 1;  // odd: neighbouring rows lie in different banks of shared memory
        out.bytes = number * out.rows * out.row;
        if (out.bytes <= SHARED) break;
    }
    return out;
}

template <bool BACKWARD>
int run(const LogisticMixtureShape& s, const void* grad, Strides4 grad_strides, const void* params,
        Strides4 params_strides, const void* images, Strides4 images_strides, void* out, Strides4 out_strides,
        CUstream_st* stream) {
    return with_dtype(s.dtype, [&](auto* type) {
        using E = std::remove_pointer_t<decltype(type)>;
        using T = typename Sum<E>::type;
        const Sizes sizes = sizes_of(s, sizeof(T));
        if (sizes.tile == 0) return static_cast<int>(cudaErrorInvalidValue);
        const double width = 2.0 / (s.levels - 1);
        const double least = s.min_log_scale > LOWEST_LOG_SCALE ? s.min_log_scale : LOWEST_LOG_SCALE;
        Args<T> args = {};
        args.params = params;
        args.images = static_cast<const uint8_t*>(images);
        args.grad = static_cast<const T*>(grad);
        args.out = out;
        args.params_strides = params_strides;
        args.images_strides = images_strides;
        args.grad_strides = grad_strides;
        args.out_strides = out_strides;
        args.scale = {T(s.levels - 1), T(1.0 / (s.levels - 1)), T(std::log(width)), T(least)};
        args.pixels = s.batch * s.height * s.width;
        args.height = static_cast<int>(s.height);
        args.width = static_cast<int>(s.width);
        args.channels = s.channels;
        args.components = s.components;
        args.num_params = sizes.num_params;
        args.results = sizes.results;
        args.tile = sizes.tile;
        args.row = sizes.row;
        args.parameters_together = params_strides.s[1] == 1;
        launch(logistic_mixture<E, BACKWARD>, dim3(blocks(args.pixels, sizes.tile)), THREADS, sizes.bytes, stream, args);
        return static_cast<int>(cudaGetLastError());
    });
}

}  // namespace

extern "C" {

int logistic_mixture_fits_cuda(const LogisticMixtureShape* s) {
    return sizes_of(*s, s->dtype == GENFAST_FLOAT64 ? sizeof(double) : sizeof(float)).tile > 0;
}

int logistic_mixture_fwd_cuda(const LogisticMixtureShape* shape, const void* params, Strides4 params_strides,
                              const void* images, Strides4 images_strides, void* out, Strides4 out_strides,
                              CUstream_st* stream) {
    return run<false>(*shape, nullptr, {}, params, params_strides, images, images_strides, out, out_strides, stream);
}

int logistic_mixture_bwd_cuda(const LogisticMixtureShape* shape, const void* grad, Strides4 grad_strides,
                              const void* params, Strides4 params_strides, const void* images,
                              Strides4 images_strides, void* dparams, Strides4 dparams_strides, CUstream_st* stream) {
    return run<true>(*shape, grad, grad_strides, params, params_strides, images, images_strides, dparams,
                     dparams_strides, stream);
}

}  // extern "C"
