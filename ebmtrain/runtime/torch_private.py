"""torch's private interfaces. No other file of the package names them.

They are checked with the version of torch below; tests/runtime/test_torch_private.py says which one
is missing in another. The compiler is imported on request: it takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

VERSION = "2.13"

__all__ = ["TorchDispatchMode"]

_torch: Any = torch

foreach_add: Callable[..., None] = _torch._foreach_add_
"""x_i += scalar for each tensor of a list."""
foreach_copy: Callable[..., None] = _torch._foreach_copy_
"""Each tensor of the second list into that of the first."""
foreach_lerp: Callable[..., None] = _torch._foreach_lerp_
"""x_i += weight * (y_i - x_i) for each pair of two lists."""
fused_adam_kernel: Callable[..., None] = _torch._fused_adam_
fused_adamw_kernel: Callable[..., None] = _torch._fused_adamw_


def in_function_transform() -> bool:
    """True inside of forward-mode differentiation and of a `torch.func` transform such as vmap."""
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    forward_level = torch.autograd.forward_ad._current_level
    return forward_level >= 0 or functorch.maybe_current_level() is not None


def disable_dispatch_modes() -> AbstractContextManager[Any]:
    """Operations inside are not seen by the caller's dispatch modes."""
    return _disable_current_modes()


@contextmanager
def no_vmap_fallback_warnings() -> Iterator[None]:
    """vmap prints no line about an operation that it does for each member in turn."""
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    functorch._set_vmap_fallback_warning_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_warning_enabled(True)


def compile_with_inductor(
    graph: torch.fx.GraphModule, examples: list[torch.Tensor], options: dict[str, Any]
) -> Callable[..., Any]:
    """The graph, compiled by inductor for tensors like these."""
    from torch import _inductor
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # Without an environment for shapes inductor does not use its cache of graphs.
    shapes = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    with torch.no_grad(), tracing(TracingContext(shapes)):
        compiled: Any = _inductor.compile(graph, list[Any](examples), options=options)
    return compiled
