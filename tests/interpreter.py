"""Programs evaluated by StableHLO's reference interpreter, before any compiler has seen them.

Compiling a small program takes longer than tracing, lowering and interpreting it together, so that suites of
many geometries are interpreted, and a part of them compiled beside that.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

# Whether XLA lets one choose how it writes fused loops: later versions refuse the option.
HAS_OLD_EMITTERS = jax.__version_info__ < (0, 11)


def interpret(function: Callable[..., Any], *operands: np.ndarray) -> list[np.ndarray]:
    """The flat results of `function`, as its lowered program says."""
    module = jax.jit(function, keep_unused=True).lower(*operands).compiler_ir()
    with module.context:
        attributes = [ir.DenseElementsAttr.get(np.asarray(a, order="C")) for a in operands]
        return [np.array(result) for result in stablehlo.eval_module(module, attributes)]


def compiled(function: Callable[..., Any], *operands: np.ndarray) -> list[Any]:
    """The same from XLA, compiled for one run: without optimization that takes half the time.

    With the emitters of fused loops that `conftest` turns off, for a maximum over many taps.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    if HAS_OLD_EMITTERS:
        options["xla_cpu_use_fusion_emitters"] = True
    return jax.tree.leaves(jax.jit(function, compiler_options=options)(*operands))
