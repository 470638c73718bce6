// The scan of row_lstm and diagonal_lstm in CUDA C++ for any NVIDIA GPU. Interface: cuda.cuh. The kernels:
// cuda_kernels.cuh. Here: how many blocks share an image, and what lies in their shared memory.

#include "lstm/cuda.cuh"

#include <type_traits>

#include "common/cuda_launch.cuh"
#include "lstm/cuda_kernels.cuh"

namespace {

using genfast::cuda::blocks;
using genfast::cuda::can_cluster;
using genfast::cuda::device_attribute;
using genfast::cuda::launch;
using genfast::cuda::launch_in_clusters;
using genfast::cuda::with_dtype;

constexpr int MOST_RANKS = 8;       // blocks of a cluster that every GPU with clusters grants
constexpr int LEAST_CHANNELS = 16;  // of a rank: with fewer, most of its threads would have nothing to do

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

struct Plan {
    Work work;
    Resident resident;
    int threads;
    int64_t packed_elements, shared;
    int64_t cells_at, lines_at, scratch;  // in the scratch memory, behind the packed weights: bytes
};

template <typename E>
Plan plan_of(const LstmShape& s, bool backward) {
    using S = typename Sum<E>::type;
    const Scan& scan = s.scan;
    const int64_t hidden = scan.hidden, row = backward ? 4 * hidden : round_up(hidden, 4);
    const int64_t groups = (scan.slots() + SLOTS - 1) / SLOTS, places = groups * SLOTS + scan.num_taps - 1;
    const int64_t vectors = scan.num_taps * (backward ? hidden : row), lines = 2 * places * row * sizeof(S);
    const int64_t room = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    const auto channels_of = [&](int64_t ranks) { return (hidden + ranks - 1) / ranks; };
    const auto weights_of = [&](int64_t ranks) { return vectors * channels_of(ranks) * 4 * int64_t(sizeof(E)); };

    // More blocks share an image until the weights fit, and while there are multiprocessors without work: h = 128 in
    // float32 takes four to eight. Without clusters such weights are streamed from the caches.
    int64_t ranks = 1;
    if (can_cluster(forward<E, WEIGHTS>)) {
        const int64_t multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
        while (2 * ranks <= MOST_RANKS && channels_of(2 * ranks) >= LEAST_CHANNELS &&
               (weights_of(ranks) > room || 2 * ranks * s.batch <= multiprocessors))
            ranks *= 2;
        if (weights_of(ranks) > room && ranks * s.batch > multiprocessors) ranks = 1;  // in vain: one block is as good
    }

    Plan out = {};
    const int64_t weights = weights_of(ranks), lines_at = round_up(weights, sizeof(Vector<S, 4>));
    out.resident = weights > room ? NOTHING : lines_at + lines > room ? WEIGHTS : WEIGHTS_AND_LINES;
    out.shared = out.resident == NOTHING ? 0 : out.resident == WEIGHTS ? weights : lines_at + lines;
    out.work = {scan, static_cast<int>(ranks), static_cast<int>(channels_of(ranks)), static_cast<int>(row),
                static_cast<int>(places), out.resident == WEIGHTS_AND_LINES ? static_cast<int>(lines_at) : 0};
    // As many threads as have the same amount of work, in whole warps.
    const int64_t items = groups * channels_of(ranks), turns = (items + Threads<E>::most - 1) / Threads<E>::most;
    out.threads = static_cast<int>(round_up((items + turns - 1) / turns, 32));
    out.packed_elements = vectors * hidden * 4;
    out.cells_at = round_up(out.packed_elements * sizeof(E), 256);
    out.lines_at = out.cells_at + (backward ? 0 : round_up(s.batch * scan.slots() * hidden * sizeof(S), 256));
    out.scratch = out.lines_at + (out.resident == WEIGHTS_AND_LINES ? 0 : s.batch * lines);
    return out;
}

template <typename E>
void pack(const Plan& plan, const void* weight, void* packed, bool backward, CUstream_st* stream) {
    const Scan& scan = plan.work.scan;
    launch(pack_weight<E>, dim3(blocks(plan.packed_elements, ELEMENTWISE)), ELEMENTWISE, 0, stream,
           static_cast<const E*>(weight), static_cast<E*>(packed), static_cast<int>(scan.hidden),
           static_cast<int>(scan.num_taps), backward ? plan.work.row / 4 : plan.work.row, backward);
}

template <typename Args>
int start(const Plan& plan, int64_t batch, CUstream_st* stream, void (*nothing)(Args), void (*weights)(Args),
          void (*weights_and_lines)(Args), const Args& args) {
    void (*kernel)(Args) = plan.resident == NOTHING ? nothing : plan.resident == WEIGHTS ? weights : weights_and_lines;
    const dim3 grid(static_cast<unsigned>(batch * plan.work.ranks));
    const cudaError_t error = launch_in_clusters(kernel, grid, plan.work.ranks, plan.threads, plan.shared, stream, args);
    return static_cast<int>(error != cudaSuccess ? error : cudaGetLastError());
}

}  // namespace

extern "C" {

int64_t lstm_scratch_cuda(const LstmShape* shape, int backward) {
    int64_t bytes = 0;
    with_dtype(shape->dtype, [&](auto* type) {
        bytes = plan_of<std::remove_pointer_t<decltype(type)>>(*shape, backward != 0).scratch;
        return 0;
    });
    return bytes;
}

int lstm_fwd_cuda(const LstmShape* shape, const void* x, Strides4 x_strides, const void* weight, const void* h0,
                  const void* c0, void* h, Strides4 h_strides, void* gates, void* c, void* scratch,
                  CUstream_st* stream) {
    return with_dtype(shape->dtype, [&](auto* type) {
        using E = std::remove_pointer_t<decltype(type)>;
        using S = typename Sum<E>::type;
        const Plan plan = plan_of<E>(*shape, false);
        auto* bytes = static_cast<unsigned char*>(scratch);
        pack<E>(plan, weight, scratch, false, stream);
        ForwardArgs<E> args = {};
        args.work = plan.work;
        args.x = static_cast<const E*>(x);
        args.packed = static_cast<const E*>(scratch);
        args.h0 = static_cast<const E*>(h0);
        args.c0 = static_cast<const E*>(c0);
        args.h = static_cast<E*>(h);
        args.gates = static_cast<S*>(gates);
        args.c = static_cast<S*>(c);
        args.cells = reinterpret_cast<S*>(bytes + plan.cells_at);
        args.lines = reinterpret_cast<S*>(bytes + plan.lines_at);
        args.x_strides = x_strides;
        args.h_strides = h_strides;
        return start(plan, shape->batch, stream, forward<E, NOTHING>, forward<E, WEIGHTS>,
                     forward<E, WEIGHTS_AND_LINES>, args);
    });
}

int lstm_bwd_cuda(const LstmShape* shape, const void* grad, Strides4 grad_strides, const void* gates, const void* c,
                  const void* weight, const void* c0, void* dgates, void* dc, void* scratch, CUstream_st* stream) {
    return with_dtype(shape->dtype, [&](auto* type) {
        using E = std::remove_pointer_t<decltype(type)>;
        using S = typename Sum<E>::type;
        const Plan plan = plan_of<E>(*shape, true);
        auto* bytes = static_cast<unsigned char*>(scratch);
        pack<E>(plan, weight, scratch, true, stream);
        BackwardArgs<E> args = {};
        args.work = plan.work;
        args.grad = static_cast<const E*>(grad);
        args.packed = static_cast<const E*>(scratch);
        args.c0 = static_cast<const E*>(c0);
        args.gates = static_cast<const S*>(gates);
        args.c = static_cast<const S*>(c);
        args.dgates = static_cast<S*>(dgates);
        args.dc = static_cast<S*>(dc);
        args.lines = reinterpret_cast<S*>(bytes + plan.lines_at);
        args.grad_strides = grad_strides;
        return start(plan, shape->batch, stream, backward<E, NOTHING>, backward<E, WEIGHTS>,
                     backward<E, WEIGHTS_AND_LINES>, args);
    });
}

}  // extern "C"
