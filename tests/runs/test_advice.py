"""A warning names what the run can do and has not done."""

import pytest

from ebmtrain.config import presets
from ebmtrain.runs.advice import fit_advice


@pytest.mark.parametrize(
    ("words", "warning", "fitted"),
    [
        # base_std is set by default, the step size exists
        ([], "mass outside; set model.base_std, or train longer", "mass outside; train longer"),
        (["model.base_std=null"], "mass outside; set model.base_std, or train longer", ""),
        ([], "energies run away: E is 3; lower optimizer.lr, set model.base_std or raise "
         "method.energy_regularization",
         "energies run away: E is 3; lower optimizer.lr or raise method.energy_regularization"),
        (["method=dsm"], "E is 3; lower optimizer.lr, set model.base_std or raise "
         "method.energy_regularization", "E is 3; lower optimizer.lr"),
        ([], "chains are stuck; lower sampler.step_size, or give sampler.adaptation",
         "chains are stuck; lower sampler.step_size"),
        (["sampler.adaptation=null"],
         "chains are stuck; lower sampler.step_size, or give sampler.adaptation", ""),
        (["sampler=tempering"], "chains do not mix: R-hat is 2; try sampler=tempering, a larger "
         "samples.burn_in or diagnostics.thin",
         "chains do not mix: R-hat is 2; try a larger samples.burn_in or diagnostics.thin"),
        (["sampler=langevin"], "R-hat is 2; try sampler=tempering or sampler=mala", ""),
        ([], "R-hat is 2; try sampler=tempering or sampler=mala",
         "R-hat is 2; try sampler=tempering"),
        (["method.energy_regularization=0"], "apart: lower it, or with model.base_std give "
         "method.energy_regularization=0", "apart: lower it"),
        (["model=conv"], "drifts; see checkpoints/best.pt, or lower train.steps or "
         "model.fourier_features", "drifts; see checkpoints/best.pt or lower train.steps"),
        ([], "the energy has no normaliser; set model.base_std", "the energy has no normaliser"),
        ([], "no option: nothing to change", ""),
    ],
)  # fmt: skip
def test_remedies_that_do_not_apply_are_left_out(words, warning, fitted):
    config = presets.to_plain(presets.compose_config(words))
    assert fit_advice(warning, config) == (fitted or warning)
