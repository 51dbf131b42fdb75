"""Figures must not change the state of other code in the process."""

import subprocess
import sys

import pytest
import torch
from processes import HANG_S

from ebmtrain.plots.encode import encode_png, encode_vector
from ebmtrain.plots.landscape import landscape
from ebmtrain.plots.style import own_settings
from ebmtrain.plots.window import Window

PROGRAM = """
import sys
import matplotlib
before = matplotlib.rcParams.copy()  # not dict(): reading "backend" itself imports pyplot
import torch
from ebmtrain.plots import animation, chains, curves, landscape, progress, projection
from ebmtrain.plots import samples
from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.window import fit_window
x = torch.linspace(0, 1, 60).reshape(30, 2)
energy = lambda x: x.square().sum(1)
rows = [{"step": float(i), "loss": 1.0, "kl": 1.0} for i in range(3)]
encode_png(progress.progress(energy, fit_window(x), rows, data=x, samples=x, title="t"), 20)
encode_png(samples.samples(x, x, fit_window(x), title="t"), 20)
encode_png(projection.projection(x, x, "t"), 20)
encode_png(curves.curves(rows, "t"), 20)
assert "matplotlib.pyplot" not in sys.modules, "pyplot was imported"
assert matplotlib.rcParams.copy() == before, "global settings were changed"
"""


@pytest.mark.slow
def test_no_pyplot_and_no_global_settings():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=HANG_S)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes(suffix):
    def draw():
        with own_settings():
            figure = landscape(lambda x: x.square().sum(1), Window((-1.0, -1.0), (1.0, 1.0)))
            return encode_png(figure, 30) if suffix == "png" else encode_vector(figure, suffix, 30)

    first = draw()
    assert first == draw()
    assert first.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    assert torch.is_grad_enabled()
