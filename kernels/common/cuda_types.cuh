// What the launchers of every operator on a GPU speak of, as seen from C++ without CUDA or torch headers.
//
// Rules of all launchers: every pointer is device memory of the current device, owned by the caller, of the dtype that
// the operator's shape names. Nothing may overlap what is written. Work is queued on `stream`; memory must stay alive
// until that work is done. Nothing is allocated, nothing waits for the device. Each returns cudaGetLastError() as an
// int, 0 for success.
#pragma once

#include <cstdint>

struct CUstream_st;  // CUstream_st* is cudaStream_t

enum GenfastDtype { GENFAST_FLOAT32 = 0, GENFAST_FLOAT64 = 1, GENFAST_BFLOAT16 = 2, GENFAST_FLOAT16 = 3 };

struct Strides4 {
    int64_t s[4];  // in elements; any value, zero too. Images: b, c, y, x. Weights: o, i, y, x.
};
