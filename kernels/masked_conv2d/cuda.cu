// masked_conv2d in CUDA C++ for any NVIDIA GPU: implicit matrix products over the taps that the mask keeps, without
// tensor cores, so that float32 is float32. Interface and memory rules: cuda.cuh. The kernels: cuda_kernels.cuh. Here:
// how many blocks each kernel gets, and in which layout it reads.

#include "masked_conv2d/cuda.cuh"

#include <type_traits>

#include "common/cuda_launch.cuh"
#include "masked_conv2d/cuda_kernels.cuh"

namespace {

using genfast::cuda::blocks;
using genfast::cuda::launch;
using genfast::cuda::with_dtype;

constexpr int WEIGHT_BLOCKS = 512;  // fills a large GPU about twice; fixed, so that a sum never depends on the device
constexpr int WEIGHT_STEPS = 8;     // at least, per run of pixels: writing a partial sum costs as much as a few steps

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

bool aligned(const void* pointer, int64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

Filter filter_of(const MaskedConv2dShape& s) {
    return {s.kernel_height, s.kernel_width, s.num_taps, s.color_groups, s.strict};
}

template <typename T>
int run_conv(const MaskedConv2dShape& s, bool input_gradient, const void* x, Strides4 x_strides, const void* weight,
             Strides4 weight_strides, const void* bias, void* out, Strides4 out_strides, void* packed,
             CUstream_st* stream) {
    using Tile = ConvTile<T>;
    const int read = input_gradient ? s.out_channels : s.in_channels;
    const int written = input_gradient ? s.in_channels : s.out_channels;
    const int64_t depth = round_up(static_cast<int64_t>(s.num_taps) * read, Tile::depth);
    const int columns = static_cast<int>(round_up(written, Tile::columns));
    const int64_t pixels = s.batch * s.height * s.width;
    if (depth > 0) {
        launch(pack_weight<T>, dim3(blocks(depth * columns, ELEMENTWISE)), ELEMENTWISE, 0, stream,
               static_cast<const T*>(weight), weight_strides, static_cast<T*>(packed), filter_of(s), s.out_channels,
               s.in_channels, input_gradient, depth, columns);
    }
    ConvArgs args = {x, packed, bias, out, x_strides, out_strides, pixels, static_cast<int>(s.height),
                     static_cast<int>(s.width), read, written, s.kernel_height, s.kernel_width,
                     s.num_taps, input_gradient ? -1 : 1, static_cast<int>(depth / Tile::depth), columns};
    constexpr int V = Tile::vector;
    const bool together = x_strides.s[1] == 1 && read % V == 0 && x_strides.s[0] % V == 0 && x_strides.s[2] % V == 0 &&
                          x_strides.s[3] % V == 0 && aligned(x, sizeof(T) * V);
    const dim3 grid(blocks(pixels, Tile::rows) * (columns / Tile::columns));
    launch(together ? conv<T, true> : conv<T, false>, grid, THREADS, 0, stream, args);
    return static_cast<int>(cudaGetLastError());
}

// Runs of pixels for the weight's gradient, and tiles of pixels in each.
void split_pixels(const MaskedConv2dShape& s, int* splits, int* steps) {
    const int64_t tiles = static_cast<int64_t>(blocks(s.out_channels, WeightTile::rows)) *
                          blocks(static_cast<int64_t>(s.num_taps) * s.in_channels + 1, WeightTile::columns);
    const int64_t all = blocks(s.batch * s.height * s.width, WeightTile::depth);
    const int64_t wanted = tiles >= WEIGHT_BLOCKS ? 1 : WEIGHT_BLOCKS / tiles;
    const int64_t even = (all + wanted - 1) / wanted;
    *steps = static_cast<int>(even < WEIGHT_STEPS ? WEIGHT_STEPS : even);
    *splits = static_cast<int>((all + *steps - 1) / *steps);
}

template <typename T>
int run_weight(const MaskedConv2dShape& s, const void* grad, Strides4 grad_strides, const void* x, Strides4 x_strides,
               void* dweight, void* dbias, void* partials, CUstream_st* stream) {
    using S = typename Sum<T>::type;
    int splits, steps;
    split_pixels(s, &splits, &steps);
    const int columns = s.num_taps * s.in_channels;
    const int column_tiles = columns == 0 ? 1 : static_cast<int>(blocks(columns, WeightTile::columns));
    WeightArgs args = {grad, x, partials, grad_strides, x_strides, s.batch * s.height * s.width,
                       static_cast<int>(s.height), static_cast<int>(s.width), s.out_channels, s.in_channels,
                       s.kernel_height, s.kernel_width, columns, steps};
    const dim3 grid(blocks(s.out_channels, WeightTile::rows) * column_tiles, splits);
    const bool together = grad_strides.s[1] == 1 && x_strides.s[1] == 1;
    launch(together ? weight_partials<T, true> : weight_partials<T, false>, grid, THREADS, 0, stream, args);
    const int64_t elements =
        static_cast<int64_t>(s.out_channels) * s.in_channels * s.kernel_height * s.kernel_width + s.out_channels;
    launch(finish_weight<T>, dim3(blocks(elements, ELEMENTWISE)), ELEMENTWISE, 0, stream, static_cast<const S*>(partials),
           static_cast<T*>(dweight), static_cast<T*>(dbias), filter_of(s), s.out_channels, s.in_channels, splits);
    return static_cast<int>(cudaGetLastError());
}

}  // namespace

extern "C" {

int64_t masked_conv2d_packed_elements(const MaskedConv2dShape* s) {
    // The larger of what the forward and the input gradient need.
    using Tile = ConvTile<float>;
    static_assert(Tile::depth == ConvTile<double>::depth && Tile::columns == ConvTile<double>::columns, "one padding");
    const int64_t forward = round_up(static_cast<int64_t>(s->num_taps) * s->in_channels, Tile::depth) *
                            round_up(s->out_channels, Tile::columns);
    const int64_t backward = round_up(static_cast<int64_t>(s->num_taps) * s->out_channels, Tile::depth) *
                             round_up(s->in_channels, Tile::columns);
    return forward > backward ? forward : backward;
}

int masked_conv2d_fwd_cuda(const MaskedConv2dShape* shape, const void* x, Strides4 x_strides, const void* weight,
                           Strides4 weight_strides, const void* bias, void* y, Strides4 y_strides, void* packed,
                           CUstream_st* stream) {
    return with_dtype(shape->dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        return run_conv<T>(*shape, false, x, x_strides, weight, weight_strides, bias, y, y_strides, packed, stream);
    });
}

int masked_conv2d_bwd_input_cuda(const MaskedConv2dShape* shape, const void* grad, Strides4 grad_strides,
                                 const void* weight, Strides4 weight_strides, void* dx, Strides4 dx_strides,
                                 void* packed, CUstream_st* stream) {
    return with_dtype(shape->dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        return run_conv<T>(*shape, true, grad, grad_strides, weight, weight_strides, nullptr, dx, dx_strides, packed,
                           stream);
    });
}

int64_t masked_conv2d_partial_elements(const MaskedConv2dShape* s) {
    int splits, steps;
    split_pixels(*s, &splits, &steps);
    return static_cast<int64_t>(splits) * s->out_channels * (static_cast<int64_t>(s->num_taps) * s->in_channels + 1);
}

int masked_conv2d_bwd_weight_cuda(const MaskedConv2dShape* shape, const void* grad, Strides4 grad_strides,
                                  const void* x, Strides4 x_strides, void* dweight, void* dbias, void* partials,
                                  CUstream_st* stream) {
    return with_dtype(shape->dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        return run_weight<T>(*shape, grad, grad_strides, x, x_strides, dweight, dbias, partials, stream);
    });
}

}  // extern "C"
