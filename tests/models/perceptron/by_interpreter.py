"""Does steps of chains by the kernels of Triton on the CPU, in Triton's interpreter: in a process
of its own, as Triton decides when it is imported. Called by test_perceptron_triton.py.

Products are made as on the GPU: six of numbers of bfloat16, summed in float32.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

import numpy as np
import torch
from triton.runtime import interpreter

from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import selfcheck
from ebmtrain.models.perceptron import triton_kernel as perceptron_triton
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import Network


def parts(numbers: np.ndarray) -> list[np.ndarray]:
    rest, found = torch.from_numpy(np.ascontiguousarray(numbers)), []
    for _ in range(3):
        found.append(rest.bfloat16().float())
        rest = rest - found[-1]
    return [part.numpy() for part in found]


def product(self, a, b, start, precision, *_):
    (a0, a1, a2), (b0, b1, b2) = parts(a.data), parts(b.data)
    small = a1 @ b1 + a2 @ b0 + a0 @ b2 + a1 @ b0 + a0 @ b1
    return interpreter.TensorHandle(small + a0 @ b0 + start.data, start.dtype.scalar)


def interpret() -> None:
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, allowed_dot_input_precisions=("bf16x6",))
    type(builder).create_dot = product


def agreement(sources: list[str]) -> list[bool]:
    """Whether kernels of these files pass for right."""
    found = []
    for i, source in enumerate(sources):
        spec = importlib.util.spec_from_file_location(f"changed_{i}", source)
        assert spec is not None
        assert spec.loader is not None
        changed = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(changed)
        selfcheck.langevin, selfcheck.leapfrog = changed.run_langevin, changed.run_leapfrog
        selfcheck.self_check_on.cache_clear()
        layouts = [Layout(a, 3, 5, (9, 7)) for a in perceptron.ACTIVATIONS]
        found.append(all(selfcheck.self_check_on(torch.device("cpu"), each) for each in layouts))
    return found


if __name__ == "__main__":
    given, found = sys.argv[1:]
    interpret()
    asked = torch.load(given, weights_only=False)
    if isinstance(asked[0], str):
        results = agreement(asked)
    else:
        results = [
            getattr(perceptron_triton, f"run_{name}")(x, Network(*network), *others)
            for name, x, network, *others in asked
        ]
    torch.save(results, found)
