"""The front end: watches one forward pass, operator by operator, and writes it down as steps.

Under a TorchDispatchMode every ATen call of a concrete forward pass comes by, whatever the module's Python looks like:
masks written into weights, weight norm, TorchScript, overridden calls. Shadow memory says which cells each operand
holds; a handler (by operator) says which cells the result holds. What depends on parameters alone is a constant.

The batch has two images, so that images that mix are seen. Operators without a handler, if PyTorch can decompose them,
are traced through their decomposition; all others become opaque, and are refused only if an output needs them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genfast.compiler.builder import Builder, ImagesMixed
from genfast.compiler.cells import Cells, Ids
from genfast.compiler.shadow import Shadow
from genfast.errors import NotSupported

Handled = Ids | None | Sequence[Ids | None]  # cells of the results; None for constants
Handler = Callable[["Tracer", Any, list[Any], dict[str, Any], list[Tensor]], Handled]
HANDLERS: dict[str, Handler] = {}
# Answers about shapes and memory: nothing of the numbers is in them.
METADATA = {"sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "is_contiguous", "numel", "dim", "empty_like",
            "new_empty", "new_empty_strided", "empty", "empty_strided", "is_same_size", "zeros_like", "ones_like",
            "full_like", "new_zeros", "new_ones", "new_full", "rand_like", "randn_like"}  # fmt: skip


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Registers a handler for the ATen operators of these names, in-place and out-of-place."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


class Unsupported(Exception):
    """Raised by a handler that cannot take this call apart; the text says why."""


class Tracer(TorchDispatchMode):
    """Traces everything that runs inside the ``with`` block. ``builder`` holds the result."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.builder = Builder()
        self.shadow = Shadow()
        self.names = {id(m): name for name, m in module.named_modules()}
        self.stack: list[str] = []
        self.decomposing = 0
        self.working = False  # the compiler's own calls, not the module's

    # ---- what handlers use ----

    def cells(self, value: Any) -> Cells:
        """The cells of a tensor or of a Python number."""
        if isinstance(value, Tensor):
            return self.shadow.cells(value)
        return Cells(np.full((), -1, np.int64), np.asarray(value))

    def tracked(self, value: Any) -> bool:
        """Whether any element of it is computed from the images or the condition."""
        if not isinstance(value, Tensor) or not self.shadow.tracks(value):
            return False
        ids = self.shadow.read(value)
        return ids is not None and bool((ids >= 0).any())

    def where(self) -> str:
        """The layer that is running, for messages."""
        name = next((n for n in reversed(self.stack) if n), "")
        return name or type(self.module).__name__

    # ---- the watch ----

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        working, self.working = self.working, True
        try:
            return self._watch(func, args, kwargs or {})
        finally:
            self.working = working

    def _watch(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.split("::")[-1]
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        writes = written(func, args, kwargs)
        tracked = any(self.tracked(t) for t in tensors)
        if not tracked:
            out = func(*args, **kwargs)
            for t in writes:
                self.shadow.write(t, None)
            return out
        if name == "_local_scalar_dense":
            return self._leave_torch(func, args)
        if name in METADATA:
            return func(*args, **kwargs)
        if func.is_view and not writes:
            return func(*args, **kwargs)

        self.builder.layer = self.where()
        before = self._before(writes, args)
        out = func(*args, **kwargs)
        outs = [o for o in tree_leaves(out) if isinstance(o, Tensor)]
        operands = [before if before is not None and a is args[0] else a for a in args]
        targets = writes or outs
        ids = self._handle(func, name, operands, kwargs, targets)
        for target, target_ids in zip(targets, ids, strict=False):
            self.shadow.write(target, target_ids)
        return out

    def _before(self, writes: list[Tensor], args: Any) -> Tensor | None:
        """The operand that is about to be overwritten, as it is now."""
        if not writes or not args or not isinstance(args[0], Tensor) or writes[0] is not args[0]:
            return None
        ids = self.shadow.read(args[0])
        copy = args[0].detach().clone()
        if ids is not None:
            self.shadow.write(copy, ids.copy())
        return copy

    def _handle(self, func: Any, name: str, args: list[Any], kwargs: dict[str, Any], targets: list[Tensor]) -> list:
        base = name[:-1] if name.endswith("_") and not name.startswith("__") else name
        handler = HANDLERS.get(name) or HANDLERS.get(base)
        reason = ""
        try:
            if handler is not None:
                result = handler(self, func, args, kwargs, targets)
                return [result] if result is None or isinstance(result, np.ndarray) else list(result)
            decomposed = self._decompose(func, args, kwargs)
            if decomposed is not None:
                return decomposed
            reason = f"{name} has no place in an incremental sampler"
        except ImagesMixed as error:
            return self._opaque(str(error) or f"operator {name}", args, kwargs, targets, mixes_images=True)
        except Unsupported as error:
            reason = str(error)
        return self._opaque(reason, args, kwargs, targets)

    def _decompose(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Ids | None] | None:
        """Traces PyTorch's own decomposition of an operator, and takes the cells of what that computes."""
        from torch._decomp import decomposition_table

        decomposition = decomposition_table.get(func)
        if decomposition is None and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            decomposition = func.decompose
        if decomposition is None or self.decomposing > 8:
            return None
        self.decomposing += 1
        try:
            with self:
                out = decomposition(*args, **kwargs)
        except NotSupported:
            raise
        except Exception:  # a decomposition that wants what is not here is as good as none
            return None
        finally:
            self.decomposing -= 1
        results = []
        for o in tree_leaves(out):
            if isinstance(o, Tensor):
                ids = self.shadow.read(o)
                results.append(None if ids is None else ids.copy())
        return results

    def _opaque(self, reason: str, args: Any, kwargs: Any, targets: list[Tensor], mixes_images: bool = False) -> list:
        inputs = [self.shadow.read(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        known = [ids for ids in inputs if ids is not None]
        return [self.builder.opaque(reason, known, tuple(t.shape), mixes_images) for t in targets]

    def _leave_torch(self, func: Any, args: Any) -> Any:
        """.item(), int(), bool(): Python sees a number. What it does with it cannot be followed, so it is noted."""
        note = (
            f"{self.where()}: Python reads a computed number (.item() or an if); its effect on other inputs is unseen"
        )
        if note not in self.builder.notes:
            self.builder.notes.append(note)
        return func(*args)

    # ---- the surroundings ----

    @contextmanager
    def watching(self) -> Iterator["Tracer"]:
        """This mode, with the module's layers named and the ways out of torch guarded."""
        enter = torch.nn.modules.module.register_module_forward_pre_hook
        leave = torch.nn.modules.module.register_module_forward_hook
        with ExitStack() as stack:
            stack.callback(enter(lambda module, inputs: self.stack.append(self.names.get(id(module), ""))).remove)
            stack.callback(leave(lambda module, inputs, outputs: (self.stack.pop(), None)[1]).remove)
            for method in ("numpy", "tolist", "__array__"):
                stack.enter_context(mock.patch.object(Tensor, method, self._guard(method, getattr(Tensor, method))))
            # What a module leaves out while it is compiled (checks of its input, say) is left out here too.
            stack.enter_context(mock.patch.object(torch.compiler, "is_compiling", return_value=True))
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
            stack.enter_context(self)
            yield self

    def _guard(self, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self.working and self.tracked(tensor):
                raise NotSupported(
                    f"The layer {self.where()} leaves PyTorch: it calls .{method}() on what it computed from the "
                    "image, which cannot be followed; keep the computation in torch."
                )
            return original(tensor, *args, **kwargs)

        return guarded


def written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that a call writes into: in-place operands and ``out=``."""
    out = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = kwargs.get(argument.name, args[i] if i < len(args) else None)
            out += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
    return out
