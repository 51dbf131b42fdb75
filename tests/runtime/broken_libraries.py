"""Whether the C++ of perceptrons in each of these folders passes for right: a line each.

In a process of its own, whose operations it becomes. Called by test_native.py.
"""

import sys
from pathlib import Path

from ebmtrain.models.perceptron import ops as perceptron_library
from ebmtrain.models.perceptron import selfcheck
from ebmtrain.runtime import native

native._COMMON_OPTIONS = tuple(
    "-O0" if option == "-O3" else option for option in native._COMMON_OPTIONS
)  # sooner made
for folder in sys.argv[1:]:
    perceptron_library.SOURCE = selfcheck.SOURCE = Path(folder, "perceptron.cpp")
    selfcheck.self_check.cache_clear()
    print(selfcheck.self_check(), *native.rejections())
