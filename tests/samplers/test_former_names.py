"""A user's sampler imports helpers by the names of earlier versions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ebmtrain.samplers import metropolis

# The imports of docs/extending.md before the names changed.
OLD = """
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.metropolis import accepted, choose, probability
from ebmtrain.types import Batch, Count, Energy, LossOutput, Positive, StepInfo, Tensors
"""


def test_former_imports_work_with_one_notice(folder):
    (folder / "my_parts.py").write_text(OLD)
    done = subprocess.run([sys.executable, "-c", "import my_parts"], cwd=folder, check=True,
                          capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.stderr.count("FutureWarning") == 1
    assert "accepted is now accept_mask" in done.stderr
    assert "probability is now acceptance_probability" in done.stderr


@pytest.mark.parametrize("name", metropolis._FORMER_NAMES)
def test_each_former_name_is_the_present_function(name):
    with pytest.warns(FutureWarning, match=f"{name} is now"):
        found = getattr(metropolis, name)
    assert found is vars(metropolis)[metropolis._FORMER_NAMES[name]]


def test_other_names_are_errors():
    with pytest.raises(AttributeError, match="no attribute 'accept'"):
        metropolis.__getattr__("accept")
