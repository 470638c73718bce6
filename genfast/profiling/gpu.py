"""What a profile says of a GPU."""

import torch


def sentence() -> str:
    """What a GPU would add to a profile made without one, and what is not there with one."""
    if not torch.cuda.is_available():
        return (
            "There is no GPU here. With one, the same command takes an operator's device time from events on the GPU, "
            "the trace shows its kernels and copies, and there are NVTX ranges named after the layers. Of the samplers "
            "the cpu engine alone tells how its time is spent."
        )
    return (
        "There is a GPU. The times of operators on it are between two events there, but its ceilings are not measured "
        "yet: for them percentages and bounds are against the CPU and say nothing. For registers, shared memory and "
        "occupancy of a kernel use Nsight Compute, by the NVTX ranges named after the layers."
    )
