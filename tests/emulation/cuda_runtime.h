// Tests only: stands in for the CUDA header of this name.
#include "cuda_emulation.h"
