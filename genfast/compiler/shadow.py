"""Shadow memory: for every storage that holds computed numbers, which cell each of its elements is.

A tensor's ids are its storage's ids read through its own size, stride and offset. So views need no code at all, and a
write through one view is seen through every other: in-place writes are exact.
"""

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from genfast.compiler.cells import Cells, Ids


class Shadow:
    def __init__(self) -> None:
        # By address of the storage. The weak reference keeps that address from being given to another storage.
        self.memory: dict[int, tuple[StorageWeakRef, Tensor, torch.dtype]] = {}

    def tracks(self, tensor: Tensor) -> bool:
        """Whether any element of the tensor's storage is computed."""
        return key_of(tensor) in self.memory

    def read(self, tensor: Tensor) -> Ids | None:
        """The ids of a tensor, None if its storage holds constants only, or numbers of another type."""
        entry = self.memory.get(key_of(tensor))
        if entry is None or entry[2] != tensor.dtype:
            return None
        view: Ids = torch.as_strided(entry[1], tensor.shape, tensor.stride(), tensor.storage_offset()).numpy()
        return view

    def write(self, tensor: Tensor, ids: Ids | None) -> None:
        """Says what a tensor holds now; None for constants."""
        key = key_of(tensor)
        entry = self.memory.get(key)
        if entry is None or entry[2] != tensor.dtype:
            if ids is None or (ids < 0).all():
                return
            self._sweep()
            shape = tuple(tensor.shape)
            size = tensor.untyped_storage().nbytes() // tensor.element_size()
            whole = size == tensor.numel() and tensor.is_contiguous()
            if whole and ids.shape == shape and ids.base is None and ids.flags.c_contiguous:
                shadow = torch.from_numpy(ids).reshape(-1)  # fresh, so no copy; and from now on not to be written
                ids.flags.writeable = False
                self.memory[key] = (StorageWeakRef(tensor.untyped_storage()), shadow, tensor.dtype)
                return
            shadow = torch.full((size,), -1, dtype=torch.int64)
            entry = self.memory[key] = (StorageWeakRef(tensor.untyped_storage()), shadow, tensor.dtype)
        view = torch.as_strided(entry[1], tensor.shape, tensor.stride(), tensor.storage_offset())
        if ids is None:
            view.fill_(-1)
            return
        fresh = ids.base is None and ids.flags.writeable
        view.copy_(torch.from_numpy(ids if fresh else np.array(ids)))

    def cells(self, tensor: Tensor) -> Cells:
        """Ids and, for the constants, the numbers that the tensor holds now."""
        ids = self.read(tensor)
        values = tensor.detach()
        if values.dtype in (torch.bfloat16, torch.float16):
            values = values.float()
        array = values.resolve_conj().resolve_neg().cpu().numpy()
        return Cells(np.broadcast_to(np.int64(-1), array.shape) if ids is None else ids, array)

    def _sweep(self) -> None:
        for key in [k for k, (storage, *_) in self.memory.items() if storage.expired()]:
            del self.memory[key]


def key_of(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
