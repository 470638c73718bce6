// What belongs to no operator.
#include <cuda_runtime.h>

// The sentence that belongs to a launcher's error code.
extern "C" const char* genfast_cuda_error(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
