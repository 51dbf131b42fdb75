"""What is imported before the first update: slow packages come later."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PROGRAM = """
import json, sys
words, names = json.loads(sys.argv[1])
if "-h" not in words:
    import ebmtrain.training.loop
    class Stop(BaseException): pass
    def stop(*_, **__): raise Stop
    ebmtrain.training.loop.run_callbacks = stop
from ebmtrain.cli.main import main
try:
    assert main(words) == 0
except BaseException as error:
    assert type(error).__name__ == "Stop", error
print([name for name in names if name in sys.modules], file=sys.stderr)
"""
_PACKAGES = ["matplotlib", "scipy", "sklearn", "pandas", "torch._dynamo"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "packages"),
    [(["-h"], ["torch", "numpy", "email", "sysconfig", *_PACKAGES]), ([], _PACKAGES)],
)
def test_a_start_imports_no_slow_package(words, packages, tmp_path):
    program = [sys.executable, "-c", _PROGRAM, json.dumps([words, packages])]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stderr == "[]\n"
