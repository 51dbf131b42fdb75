"""Whether the self-check accepts the library in a folder with each of its mutations: a line each.

The first line is of no mutation. Called by test_native.py, in a process of its own: the library
registers its operations there.
"""

import sys
from pathlib import Path

from ebmtrain.models.perceptron import ops, selfcheck
from ebmtrain.runtime import native

native._COMMON_OPTIONS = tuple(
    "-O0" if option == "-O3" else option for option in native._COMMON_OPTIONS
)  # takes less time to compile
folder, count = sys.argv[1:]
ops.SOURCE = selfcheck.SOURCE = Path(folder, "perceptron.cpp")
for number in range(int(count) + 1):
    cpp = native.library(ops.SOURCE)
    assert cpp is not None, native.rejections()
    cpp.select_mutation(number)
    selfcheck.self_check.cache_clear()
    print(selfcheck.self_check(), *native.rejections())
