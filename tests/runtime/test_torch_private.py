"""The private interfaces of torch are there, and stand in one file."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import ebmtrain
from ebmtrain.runtime import torch_private

PACKAGE = Path(ebmtrain.__file__).parent
PRIVATE = re.compile(
    r"torch\._[a-zA-Z]|from torch import _|_python_dispatch|_current_level|_functorch"
)


def test_torch_has_the_version_of_its_private_interfaces():
    assert torch.__version__.startswith(f"{torch_private.VERSION}."), (
        f"torch {torch.__version__} is installed; ebmtrain/runtime/torch_private.py was "
        f"checked with {torch_private.VERSION}: compare each interface, then change VERSION"
    )


def test_no_other_file_names_private_interfaces():
    lines = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.glob("**/*.py"))
        if path.name != "torch_private.py"
        for line in path.read_text().splitlines()
        if PRIVATE.search(line)
    ]
    assert lines == []


def test_a_transform_is_noticed():
    found = []

    def f(x):
        found.append(torch_private.in_function_transform())
        return x

    f(torch.ones(2))
    torch.func.vmap(f)(torch.ones(2))
    with torch.autograd.forward_ad.dual_level():
        f(torch.ones(2))
    assert found == [False, True, True]


def test_operations_inside_are_not_seen_by_modes():
    seen = []

    class Recorder(torch_private.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Recorder():
        torch.ones(2) + 1
        count = len(seen)
        with torch_private.disable_dispatch_modes():
            torch.ones(2) + 1
    assert len(seen) == count > 0
