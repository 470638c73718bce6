// Walks in raster order through the pixels of a batch and through the taps of a filter, without a division per step.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace genfast::cuda {

// A place k = (tap, channel) of a sum over the taps, in rows of kw, and the channels. step(n) walks n places on.
struct Place {
    int channel, ty, tx;

    __device__ Place(int64_t k, int channels, int kw)
        : channel(static_cast<int>(k % channels)), ty(static_cast<int>(k / channels / kw)),
          tx(static_cast<int>(k / channels % kw)) {}

    __device__ void step(int n, int channels, int kw) {
        channel += n;
        while (channel >= channels) {
            channel -= channels;
            if (++tx == kw) {
                tx = 0;
                ++ty;
            }
        }
    }
};

// A pixel of the batch. step(n) walks n pixels on.
struct Pixel {
    int64_t batch;
    int y, x;

    __device__ Pixel(int64_t p, int height, int width)
        : batch(p / width / height), y(static_cast<int>(p / width % height)), x(static_cast<int>(p % width)) {}

    __device__ void step(int n, int height, int width) {
        x += n;
        while (x >= width) {
            x -= width;
            if (++y == height) {
                y = 0;
                ++batch;
            }
        }
    }
};

}  // namespace genfast::cuda
