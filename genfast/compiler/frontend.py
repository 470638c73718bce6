"""The front end: watches one forward pass, operator by operator, and writes it down as steps.

Under a TorchDispatchMode every ATen call of a concrete forward pass comes by, whatever the module's Python looks like:
masks written into weights, weight norm, TorchScript, overridden calls. Shadow memory says which cells each operand
holds; a handler (by operator) says which cells the result holds. What depends on parameters alone is a constant.

The batch has two images, so that images that mix are seen. Operators without a handler, if PyTorch can decompose them,
are traced through their decomposition; all others become opaque, and are refused only if an output needs them.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from genfast.compiler.builder import Builder
from genfast.compiler.cells import Cells, Ids
from genfast.compiler.shadow import Shadow, key_of
from genfast.compiler.tables import ImagesMixed, Unsupported
from genfast.errors import NotSupported
from genfast.kernels.gated_activation.reference import gated_activation

Handled = Ids | None | Sequence[Ids | None]  # cells of the results; None for constants
Handler = Callable[["Tracer", Any, list[Any], dict[str, Any], list[Tensor]], Handled]
HANDLERS: dict[str, Handler] = {}
DECOMPOSITIONS: dict[str, Callable[..., Any]] = {  # of operators of ours that are made of PyTorch's
    "genfast::gated_activation": lambda x, color_groups, backend: gated_activation(x, color_groups),
}
# Answers about shapes and memory: nothing of the numbers is in them.
METADATA = {"sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "is_contiguous", "numel", "dim", "empty_like",
            "new_empty", "new_empty_strided", "empty", "empty_strided", "is_same_size", "zeros_like", "ones_like",
            "full_like", "new_zeros", "new_ones", "new_full", "rand_like", "randn_like", "randint_like",
            "_assert_async", "_assert_tensor_metadata", "_assert_scalar"}  # fmt: skip
# Ways out of torch, where nothing can be followed.
EXITS = ("numpy", "tolist", "__array__", "__dlpack__", "__deepcopy__", "__reduce_ex__")


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Registers a handler for the ATen operators of these names, or for others ("namespace::name").

    Handlers see functional operators only: of those that write, the tracer hands over their twins.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


class Tracer(TorchDispatchMode):
    """Traces everything that runs inside the ``with`` block. ``builder`` holds the result."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.builder = Builder()
        self.shadow = Shadow()
        self.names = {id(m): name for name, m in module.named_modules()}
        self.owners = {id(p): (name.rpartition(".")[0], p) for name, p in module.named_parameters()}
        self.stack: list[tuple[int, str]] = []
        self.decomposing = 0
        self.working = False  # the compiler's own calls, not the module's
        self.checking = False  # torch looks at numbers only to complain about bad ones
        self.dtypes: set[torch.dtype] = set()  # of the computed tensors

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Called by PyTorch. False: it need not import its compiler, which takes seconds, only to leave this alone."""
        return False

    # ---- what handlers use ----

    def cells(self, value: Any) -> Cells:
        """The cells of a tensor or of a Python number."""
        if isinstance(value, Tensor):
            return self.shadow.cells(value)
        return Cells(np.full((), -1, np.int64), np.asarray(value))

    def tracked(self, value: Any) -> bool:
        """Whether any element of it is computed from the images or the condition."""
        if not isinstance(value, Tensor) or value.layout != torch.strided or not self.shadow.tracks(value):
            return False
        ids = self.shadow.read(value)
        if ids is None:
            raise NotSupported(f"Layer {self.where()} reads the memory of computed numbers as {value.dtype}.")
        return bool(ids.size) and (bool(ids.flat[0] >= 0) or bool((ids >= 0).any()))

    def unknown(self, reason: str, operands: Sequence[Tensor], like: Tensor) -> Ids:
        """The cells of a result that is not followed: refused only if an output needs it."""
        ids = [self.shadow.read(t) for t in operands]
        return self.builder.opaque(reason, [i for i in ids if i is not None], tuple(like.shape))

    def where(self) -> str:
        """The layer that is running, for messages."""
        return self._running() or type(self.module).__name__

    def _running(self) -> str:
        return next((n for _, n in reversed(self.stack) if n), "")

    def _layer_of(self, operands: Sequence[Tensor]) -> str:
        """The layer that is running, or one inside it that was called past its hooks and uses its parameter here."""
        running = self._running()
        for t in operands:
            owner, parameter = self.owners.get(id(t), ("", None))
            if parameter is t and owner.startswith(running and running + "."):
                return owner or self.where()
        return self.where()

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
        if not any(self.tracked(t) for t in tensors):
            out = func(*args, **kwargs)
            for t in writes:
                self.shadow.write(t, None)
            return out
        if name in METADATA or (torch.Tag.inplace_view in func.tags and name != "resize_"):
            return func(*args, **kwargs)

        self.builder.layer = self._layer_of(tensors)
        before, before_named = self._before(writes, args, kwargs)
        out = func(*args, **kwargs)
        outs = [o for o in tree_leaves(out) if isinstance(o, Tensor)]
        if func.is_view and not writes and all(key_of(o) in map(key_of, tensors) for o in outs):  # reshape may copy
            for o in outs:
                self.tracked(o)  # raises if it is read as another type
            return out
        targets = writes if returns_written(func) else outs
        if not targets:
            self._note()
            return out
        for target in targets:
            if target.layout != torch.strided:
                raise NotSupported(f"Layer {self.where()}: {name} makes a {target.layout} tensor of computed numbers.")
            if target.dtype.is_floating_point:
                self.dtypes.add(target.dtype)
        for target, ids in zip(targets, self._handle(func, before, before_named, targets), strict=True):
            self.shadow.write(target, ids)
        return out

    def _before(self, writes: list[Tensor], args: Any, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The operands as they are before any of them is overwritten."""
        if not writes:
            return list(args), kwargs
        keys = {key_of(t) for t in writes}

        def snapshot(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.layout != torch.strided or key_of(value) not in keys:
                return value
            ids = self.shadow.read(value)
            if ids is not None and (ids >= 0).all():
                return value  # its numbers are never looked at
            copy = value.detach().clone()
            self.shadow.write(copy, None if ids is None else ids.copy())
            return copy

        return tree_map(snapshot, list(args)), tree_map(snapshot, kwargs)

    def _handle(self, func: Any, args: list[Any], kwargs: dict[str, Any], targets: list[Tensor]) -> list[Ids | None]:
        """The cells of the results. What no handler can tell is opaque, and so is what a handler fails at."""
        name = func._schema.name.removeprefix("aten::").removeprefix("prims::")
        if any(t.is_complex() for t in tree_leaves((args, kwargs, targets)) if isinstance(t, Tensor)):
            return self._opaque(f"operator {name}: complex numbers are not taken", args, kwargs, targets)
        if returns_written(func):
            func = functional(func)
            kwargs = {k: v for k, v in kwargs.items() if func is None or k in {a.name for a in func._schema.arguments}}
        handler = func and HANDLERS.get(func._schema.name.removeprefix("aten::").removeprefix("prims::"))
        unseen = [] if handler is not None else written(func, args, kwargs) if func is not None else targets
        if unseen:
            for t in unseen:
                self.shadow.write(t, self._opaque(f"operator {name}", args, kwargs, [t])[0])
            return self._opaque(f"operator {name}: it writes what is not followed", args, kwargs, targets)
        try:
            if handler is not None:
                result = handler(self, func, args, kwargs, targets)
                results = [result] if result is None or isinstance(result, np.ndarray) else list(result)
            else:
                decomposed = self._decompose(func, args, kwargs)
                if decomposed is None:
                    raise Unsupported("it has no place in an incremental sampler")
                results = decomposed
            if len(results) != len(targets):
                raise Unsupported(f"{name} gives {len(targets)} tensors, of which {len(results)} are followed")
            return results
        except ImagesMixed as error:
            return self._opaque(str(error) or f"operator {name}", args, kwargs, targets, mixes_images=True)
        except Unsupported as error:
            return self._opaque(f"operator {name}: {error}", args, kwargs, targets)
        except NotSupported:
            raise
        except Exception as error:  # what nobody thought of must not pass, nor end in a traceback
            reason = f"operator {name} is called in a way that is not followed ({type(error).__name__}: {error})"
            return self._opaque(reason, args, kwargs, targets)

    def _decompose(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Ids | None] | None:
        """Traces the decomposition of an operator, ours or PyTorch's own, and takes the cells of what that computes."""
        from torch._decomp import decomposition_table

        decomposition = DECOMPOSITIONS.get(func._schema.name, decomposition_table.get(func))
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

    def _note(self) -> None:
        """Python sees a computed number: .item(), int(), an if. What it does with it cannot be followed."""
        note = (
            f"{self.where()}: Python reads a computed number (.item() or an if); its effect on other inputs is unseen"
        )
        if note not in self.builder.notes and not self.checking:
            self.builder.notes.append(note)

    # ---- the surroundings ----

    @contextmanager
    def watching(self) -> Iterator["Tracer"]:
        """This mode, with the module's layers named and the ways out of torch guarded."""
        enter = torch.nn.modules.module.register_module_forward_pre_hook
        leave = torch.nn.modules.module.register_module_forward_hook
        with ExitStack() as stack:
            stack.callback(enter(self._enter).remove)
            stack.callback(leave(self._leave).remove)
            for method in EXITS:
                stack.enter_context(mock.patch.object(Tensor, method, self._guard(method, getattr(Tensor, method))))
            # What a module leaves out while it is compiled (checks of its input, say) is left out here too.
            stack.enter_context(mock.patch.object(torch.compiler, "is_compiling", return_value=True))
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
            if (
                "torch._dynamo" in sys.modules
            ):  # compiled modules cannot be watched inside: they run as they are written
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(Checks(self))
            stack.enter_context(self)
            yield self

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        name = self.names.get(id(module))
        if name is None:  # made in the forward pass
            name = ".".join(filter(None, [self._running(), type(module).__name__]))
        self.stack.append((id(module), name))

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Also forgets layers inside that an exception left, which the module caught."""
        while self.stack and self.stack.pop()[0] != id(module):
            pass

    def _guard(self, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self.working and self.tracked(tensor):
                raise NotSupported(
                    f"The layer {self.where()} leaves PyTorch: it calls .{method}() on what it computed from the "
                    "image, which cannot be followed; keep the computation in torch."
                )
            return original(tensor, *args, **kwargs)

        return guarded


class Checks(TorchFunctionMode):
    """Knows the functions that look at numbers only to complain about bad ones: nothing to make a note of."""

    FUNCTIONS = (torch.nn.functional.one_hot,)

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        checking, self.tracer.checking = self.tracer.checking, func in self.FUNCTIONS or self.tracer.checking
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.tracer.checking = checking


def written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that a call writes into: in-place operands and ``out=``."""
    out = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write and "batch_norm" not in func._schema.name:
            value = kwargs.get(argument.name, args[i] if i < len(args) else None)
            out += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
    return out


def returns_written(func: Any) -> bool:
    """Whether the results of a call are what it wrote into."""
    writes = [a for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    returns = func._schema.returns
    return bool(writes) and all(r.alias_info is not None and r.alias_info.is_write for r in returns)


def functional(func: Any) -> Any:
    """The operator that gives what this one writes into its operands or into ``out=``; None if there is none."""
    namespace, name = func._schema.name.split("::")
    wanted = [a.name for a in func._schema.arguments if not a.is_out]
    for base in {name, name[:-1] if name.endswith("_") else name}:
        packet = getattr(getattr(torch.ops, namespace), base, None)
        for overload in packet.overloads() if packet is not None else ():
            twin = getattr(packet, overload)
            writes = any(a.alias_info is not None and a.alias_info.is_write for a in twin._schema.arguments)
            same_types = [str(a.type) for a in twin._schema.arguments] == [
                str(a.type) for a in func._schema.arguments if not a.is_out
            ]
            if not writes and [a.name for a in twin._schema.arguments] == wanted and same_types:
                return twin
    return None
