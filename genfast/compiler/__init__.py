"""The sampler compiler: any causal module -> Program -> Plan. It sees traces only, and knows no class of module.

trace (frontend, shadow, handlers) -> footprint -> Program -> fuse -> schedule -> Plan
"""

from genfast.compiler.compile import compile_module, trace
from genfast.compiler.report import CausalityReport, check_causality
from genfast.compiler.resolve import make_target
from genfast.compiler.schedule import schedule
from genfast.compiler.target import Target, model_target

__all__ = [
    "CausalityReport",
    "Target",
    "check_causality",
    "compile_module",
    "make_target",
    "model_target",
    "schedule",
    "trace",
]
