"""What a run of images leaves in its folder of pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ebmtrain.gallery import picked, rarer_and_rarer
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.sampling import evolution

SMALL = (
    "model=conv", "model.widths=[4,4]", "train.steps=3", "train.batch_size=16",
    "evaluation.resolution=8", "samples.count=20", "samples.chains=10", "samples.burn_in=6",
    "samples.thin=1", "quality.points=10", "quality.shuffles=5", "diagnostics.chains=4",
    "diagnostics.draws=8", "diagnostics.thin=1", "method.slots=32", "device.threads=1",
    "hydra.run.dir=run",
)  # fmt: skip


@pytest.mark.parametrize("data", ["digits", "file"])
def test_images_are_drawn_as_images(command, folder, data):
    """Of a file too, where the model is one of images; and `plot` makes them anew."""
    np.save("x.npy", np.random.default_rng(0).uniform(size=(40, 3, 8, 9)))
    words = ["dataset=digits"] if data == "digits" else ["dataset=file", "dataset.path=x.npy"]
    outcome = command(*SMALL, *words)
    assert outcome.code == 0, outcome.err
    plots = folder / "run/plots"
    for name in ("samples_final.png", "chain_final.png", "chain.gif"):
        assert (plots / name).stat().st_size > 1000
    assert not list(plots.glob("landscape*"))
    if data == "file":
        return
    (plots / "samples_final.png").unlink()
    assert command("plot", "run").code == 0
    assert (plots / "samples_final.png").exists()


def test_a_chain_is_shown_at_the_steps_that_are_named():
    """Gradient descent on ||x||^2 / 2 shrinks by 0.9 a step."""

    def energy(x):
        return x.square().sum((1, 2)) / 2

    start = torch.ones(2, 3, 3)
    generator = torch.Generator().manual_seed(0)
    sampler = Langevin(step_size=0.1, temperature=0.0)
    seen = evolution(sampler, energy, start, [0, 1, 2, 25], generator)
    assert seen.shape == (4, 2, 3, 3)
    expected = torch.tensor([1.0, 0.9, 0.81, 0.9**25])
    torch.testing.assert_close(seen[:, 0, 0, 0], expected)


@pytest.mark.parametrize("last", [1, 2, 7, 50, 200, 100_000])
def test_steps_begin_close_together_and_end_at_the_last(last):
    steps = rarer_and_rarer(last, 40)
    assert (steps[0], steps[1], steps[-1]) == (0, 1, last)
    assert len(steps) <= 41
    few = picked(steps, 12)
    assert few == sorted(set(few))
    assert (few[0], few[-1]) == (0, last)
    assert len(few) <= 12
