"""Mutation tests: errors in single lines that the tests and `ebmtrain verify` have to detect.

    python benchmarks/mutants.py                    all mutants, a quarter of an hour on one core
    python benchmarks/mutants.py mala buffer        those whose names contain one of these words
    python benchmarks/mutants.py --print            write no file; without it, write docs/mutants.md

Each mutant is a copy of the project with one changed line. The tests of that part run on it, and so
does `ebmtrain verify` if users can make the same error in their own parts. A mutant is killed if
they fail on it and pass on an unchanged copy.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("ebmtrain", "configs", "tests", "pyproject.toml", "README.md", "LICENSE")
MALA = "method=cd sampler=mala"


class Mutant(NamedTuple):
    name: str
    file: str
    """Under ebmtrain/."""
    line: str
    """Text that occurs exactly once in the file."""
    broken: str
    tests: str
    """Under tests/, arguments of pytest."""
    verify: str | None = None
    """Arguments of `ebmtrain verify`; None if users cannot make this error in their own parts."""


CONTRASTIVE = "methods/test_contrastive_laws.py"
MATCHING = "methods/test_score_matching_laws.py"
CONTRASTING = "methods/test_contrasting_laws.py"
DUAL = "methods/test_dual.py"
METROPOLIS = "samplers/test_metropolis.py"
TEMPERING = "samplers/test_tempering.py"
JARZYNSKI = "methods/test_jarzynski.py"
POSTERIOR = "cli/test_inpaint.py cli/test_denoise.py"
SAMPLING = "runs/test_sampling.py samplers/test_draw.py cli/test_inpaint.py"
PERCEPTRON = "models/perceptron/test_elementary_functions.py"
PROPERTIES = "evaluation/properties"
STATES = "dataset=bars_and_stripes model=rbm method=cd"
STATE_SAMPLERS = "samplers/test_state_samplers.py"
STATE_NUMBERS = "evaluation/test_state_numbers.py"
MUTANTS = (
    # Objectives
    Mutant("contrastive divergence: sign", "methods/contrast.py",
           "loss = data_mean - model_mean", "loss = model_mean - data_mean",
           CONTRASTIVE, "method=pcd"),
    Mutant("contrastive divergence: negatives not detached", "methods/contrast.py",
           "points = torch.cat([x, negatives.detach()])", "points = torch.cat([x, negatives])",
           CONTRASTIVE),
    Mutant("regularization: factor", "methods/contrast.py",
           "loss = loss + regularization * squares", "loss = loss + squares", CONTRASTIVE),
    Mutant("regularization: data only", "methods/contrast.py",
           "squares = data.square().mean() + _weighted_mean(model.square(), weights)",
           "squares = data.square().mean()", CONTRASTIVE),
    Mutant("buffer: chains are not written back", "methods/persistent_chains.py",
           "chains.index_copy(0, slots, chain.x)", "chains", "methods/test_chain_buffer.py"),
    Mutant("buffer: slots drawn with replacement", "methods/persistent_chains.py",
           "torch.randperm(len(chains), generator=generator, device=chains.device)[: len(x)]",
           "torch.randint(len(chains), (len(x),), generator=generator)",
           "methods/test_chain_buffer.py"),
    Mutant("score matching: no trace", "methods/score_matching.py",
           "(squared_norm / 2 + divergence).mean()", "(squared_norm / 2).mean()", MATCHING,
           "method=sm"),
    Mutant("score matching: trace detached", "methods/score_matching.py",
           "(squared_norm / 2 + divergence).mean()",
           "(squared_norm / 2 + divergence.detach()).mean()",
           MATCHING, "method=sm"),
    Mutant("denoising: sign", "methods/denoising_score_matching.py",
           "offset = xi * (-self.sigma / n)", "offset = xi * (self.sigma / n)",
           MATCHING, "method=dsm"),
    Mutant("sliced score matching: directions on the unit sphere",
           "methods/sliced_score_matching.py",
           "s, products = score_and_products(energy, x, v)",
           "s, products = score_and_products(energy, x, v / v.flatten(2).norm(dim=2)[..., None])",
           MATCHING),
    Mutant("finite differences: half the divergence", "methods/finite_difference_score_matching.py",
           "(ahead + behind - 2 * here) / self.eps**2",
           "(ahead + behind - 2 * here) / (2 * self.eps**2)", MATCHING, "method=fd_ssm"),
    Mutant("nce: nu missing in the ratio", "methods/noise_contrastive_estimation.py",
           "noise.log_prob(state, points) + math.log(self.nu)", "noise.log_prob(state, points)",
           CONTRASTING),
    Mutant("nce: sign of log Z", "methods/noise_contrastive_estimation.py",
           '(-values - state["log_z_learnt"] - log_noise)',
           '(-values + state["log_z_learnt"] - log_noise)', CONTRASTING),
    Mutant("energy discrepancy: sign of the difference", "methods/energy_discrepancy.py",
           "terms = data - others", "terms = others - data", CONTRASTING, "method=ed"),
    Mutant("energy discrepancy: t as a standard deviation", "datasets/support.py",
           "math.sqrt(t) * x.new_empty", "t * x.new_empty", CONTRASTING),
    Mutant("Jarzynski: sign of the work", "methods/jarzynski.py",
           'walkers["log_weights"] - work', 'walkers["log_weights"] + work',
           "methods/test_jarzynski.py"),
    Mutant("Jarzynski: resampling loses log Z", "methods/jarzynski.py",
           "torch.where(low, log_mean_exp(a)[:, None], a)",
           "torch.where(low, torch.zeros_like(a), a)", "methods/test_jarzynski.py"),
    Mutant("Stein kernel: factor of the last term", "score.py",
           "3 * square * inverse", "2 * square * inverse", MATCHING),
    Mutant("entropy: without the dimension", "methods/improved_contrastive_divergence.py",
           "return d / 2 * square.log().mean()", "return square.log().mean() / 2",
           "methods/test_improved_cd.py"),
    Mutant("dual: sign of the noise", "methods/dual_score_matching.py",
           "sigma * by_point - xi", "sigma * by_point + xi", DUAL),
    Mutant("dual: sign of the derivative in time", "methods/dual_score_matching.py",
           "target = (1 - xi", "target = -(1 - xi", DUAL),
    Mutant("dual: derivative in time without the dimension", "methods/dual_score_matching.py",
           "(target - by_time / d)", "(target - by_time)", DUAL),
    Mutant("dual: noise without the variance of the data", "methods/dual_score_matching.py",
           "(noise.variance * log_t.exp()).sqrt()", "log_t.exp().sqrt()", DUAL),
    Mutant("dual: log Z at the least noise", "methods/dual_score_matching.py",
           "math.log(model.noise.t_max))", "math.log(model.noise.t_min))", DUAL),
    Mutant("dual: Euler in place of Heun", "methods/dual_score_matching.py",
           "k + slope(y + h * k, following)", "k + k", DUAL),
    Mutant("dual: radii of another dimension", "methods/dual_score_matching.py",
           "torch.full_like(x, d / 2)", "torch.full_like(x, (d + 1) / 2)", DUAL),
    Mutant("dual: Gaussian without the unit of the noise", "models/gaussian_path.py",
           "self.eigenvalues.mean() * log_t.exp()", "log_t.exp()", DUAL),
    # Chains
    Mutant("score: mean in place of the sum", "score.py",
           "torch.autograd.grad(e.sum(), x)", "torch.autograd.grad(e.mean(), x)",
           "test_score.py samplers/test_langevin.py"),
    Mutant("score: chains give parameters gradients", "score.py", "p.requires_grad_(False)", "pass",
           "test_score.py"),
    Mutant("Langevin: noise without the 2", "samplers/langevin.py",
           "(2 * eta * self.temperature) ** 0.5", "(eta * self.temperature) ** 0.5",
           "samplers/test_langevin.py", "method=pcd sampler=langevin"),
    Mutant("mala: no proposal ratio", "samplers/mala.py",
           "(state.energy - e) / self.temperature + forward - backward",
           "(state.energy - e) / self.temperature", METROPOLIS, MALA),
    Mutant("mala: energy of the proposal kept on rejection", "samplers/mala.py",
           "index=state.index + 1)", "index=state.index + 1, energy=e)", METROPOLIS, MALA),
    Mutant("mala: gradient of the proposal kept on rejection", "samplers/mala.py",
           "index=state.index + 1)", "index=state.index + 1, gradient=gradient)", METROPOLIS,
           MALA),
    Mutant("hmc: kinetic energies left out", "samplers/hmc.py",
           "(state.energy - e) / self.temperature + kinetic_before - kinetic_after",
           "(state.energy - e) / self.temperature", METROPOLIS, "method=cd sampler=hmc"),
    Mutant("underdamped: friction without its noise", "samplers/underdamped.py",
           "math.sqrt(self.temperature * (1 - decay**2))",
           "math.sqrt(self.temperature * (1 - decay))", "samplers/test_underdamped.py",
           "method=pcd sampler=underdamped"),
    Mutant("tempering: sign of the exchange", "samplers/tempering.py",
           "difference * (cold.energy[a] - hot.energy[b])",
           "difference * (hot.energy[b] - cold.energy[a])", "samplers/test_tempering.py"),
    Mutant("jumps: always accepted", "samplers/jumps.py",
           "accept_or_reject(log_ratio,", "accept_or_reject(torch.full_like(log_ratio, torch.inf),",
           "samplers/test_jumps.py"),
    # Evaluators
    Mutant("log Z: volume of a grid cell", "evaluation/estimators/grid_quadrature.py",
           "- len(axes) * math.log(n_per_axis)", "- math.log(n_per_axis)",
           "evaluation/test_exact.py"),
    Mutant("NLL: standard error without the root", "evaluation/exact.py",
           "float(log_p.std()) / math.sqrt(len(log_p))", "float(log_p.std()) / len(log_p)",
           "evaluation/test_exact.py"),
    Mutant("KL: arguments exchanged", "evaluation/exact.py",
           "torch.where(p > 0, p * (p.log() - log_cell - volume - log_q[rows]), 0.0)",
           "log_q[rows].exp() * (log_q[rows] - p.log() + log_cell + volume)",
           "evaluation/test_exact.py"),
    Mutant("KL: any grid is accepted", "evaluation/exact.py",
           "return _TruthPoints(x, p, float(value)) if resolved else None",
           "return _TruthPoints(x, p, float(value))",
           "evaluation/estimators/test_adaptive_quadrature.py"),
    Mutant("KL: half of the grid is not compared", "evaluation/exact.py",
           "abs(float(kl(half, log_cell)[1] - value)) <= tolerance for half in halves",
           "abs(float(kl(half, log_cell)[1] - value)) <= math.inf for half in halves",
           "evaluation/estimators/test_adaptive_quadrature.py"),
    Mutant("KL: adaptive rule without its error", "evaluation/exact.py",
           "if found.error <= tolerance:", "if found.error <= math.inf:",
           "evaluation/estimators/test_adaptive_quadrature.py"),
    Mutant("KL: adaptive rule without the volume", "evaluation/exact.py",
           "model.linear_log_prob(truth, model.to_data(u)) + model.units.log_volume",
           "model.linear_log_prob(truth, model.to_data(u))",
           "evaluation/estimators/test_adaptive_quadrature.py"),
    Mutant("adaptive rule: no box is divided", "evaluation/estimators/adaptive_quadrature.py",
           "for _ in range(_MAX_ROUNDS):", "for _ in range(0):",
           "evaluation/estimators/test_adaptive_quadrature.py"),
    Mutant("exact: temperature left out", "evaluation/protocol.py",
           "energy(u.view(-1, *self.standardization.shift.shape)) / self.temperature",
           "energy(u.view(-1, *self.standardization.shift.shape))", "evaluation/test_exact.py"),
    Mutant("AIS: sign of the weight", "evaluation/estimators/annealing.py",
           "log_w = log_w + (beta - before) * here.log_ratio(z)",
           "log_w = log_w - (beta - before) * here.log_ratio(z)", "evaluation/test_ais.py"),
    Mutant("AIS: sign of the reverse side", "evaluation/ais.py",
           "lowers, uppers = log_mean_exp(forwards), -log_mean_exp(reverses)",
           "lowers, uppers = log_mean_exp(forwards), log_mean_exp(reverses)",
           "evaluation/test_ais.py"),
    # Errors that tests once missed
    Mutant("tempering: acceptance of the hottest chains", "samplers/tempering.py",
           "return new, infos[0]._replace(swapped=swapped)",
           "return new, infos[-1]._replace(swapped=swapped)", TEMPERING),
    Mutant("tempering: exchanges of the last pair only", "samplers/tempering.py",
           "swapped = torch.stack(rates).mean()", "swapped = rates[-1]", TEMPERING),
    Mutant("jarzynski: sign of the teaching bias", "methods/jarzynski.py",
           "log_z[0] - log_z[1]", "log_z[1] - log_z[0]", JARZYNSKI),
    Mutant("jarzynski: effective sample size of the measuring group", "methods/jarzynski.py",
           '"walkers_ess": ess[0]', '"walkers_ess": ess[1]', JARZYNSKI),
    Mutant("jarzynski: weights of the measuring group", "methods/jarzynski.py",
           "slice(None, self.walkers)", "slice(self.walkers, None)", JARZYNSKI),
    Mutant("jarzynski: no data noise", "methods/jarzynski.py",
           "x = add_noise(batch.x, self.data_noise, generator)", "x = batch.x", JARZYNSKI),
    Mutant("conditional draws: not thinned", "runs/posterior.py",
           "thin=settings.thin,", "thin=1,", POSTERIOR),
    Mutant("conditional draws: no burn-in", "runs/posterior.py",
           "burn_in=settings.burn_in,", "burn_in=0,", POSTERIOR),
    Mutant("samples: start at held-out points", "runs/sampling.py",
           "experiment.dataset.train)", "experiment.dataset.holdout)", SAMPLING),
    Mutant("samples: not thinned", "runs/sampling.py", "thin=settings.thin,", "thin=1,", SAMPLING),
    Mutant("samples: no burn-in", "runs/sampling.py",
           "burn_in=settings.burn_in,", "burn_in=0,", SAMPLING),
    Mutant("toys: held-out points are training points", "datasets/toy.py",
           'density.sample(n_holdout, stream(seed, "holdout"))',
           'density.sample(n_holdout, stream(seed, "train"))', "datasets/test_dataset_points.py"),
    Mutant("sine waves: held-out points are training points", "datasets/sine_waves.py",
           'sample(n_holdout, stream(seed, "holdout"))', 'sample(n_holdout, stream(seed, "train"))',
           "datasets/test_sine_waves.py"),
    Mutant("jumps: number of rounds", "samplers/chain.py",
           "n_steps // jumps.every)", "n_steps // (2 * jumps.every))", "samplers/test_jumps.py"),
    Mutant("jumps: a round after every step", "samplers/chain.py",
           "max(1, n_steps // jumps.every)", "n_steps", "samplers/test_jumps.py"),
    Mutant("exponential: a coefficient", "models/perceptron/lanes.h",
           "8.3334519073e-3f", "8.4e-3f", PERCEPTRON),
    Mutant("exponential: the highest coefficient", "models/perceptron/lanes.h",
           "broadcast(1.9875691500e-4f)", "broadcast(5e-4f)", PERCEPTRON),
    Mutant("exponential: the lower end", "models/perceptron/lanes.h",
           "x < -87.0f ? broadcast(-87.0f)", "x < -8.7f ? broadcast(-8.7f)", PERCEPTRON),
    Mutant("exponential: the upper end", "models/perceptron/lanes.h",
           "x > 88.0f ? broadcast(88.0f)", "x > 80.0f ? broadcast(80.0f)", PERCEPTRON),
    Mutant("sine: a coefficient", "models/perceptron/lanes.h",
           "8.3321608736e-3f", "8.34e-3f", PERCEPTRON),
    Mutant("verify: the global generator is not watched", "evaluation/properties/methods.py",
           "not torch.equal(torch.get_rng_state(), rng_state)", "False", PROPERTIES),
    Mutant("verify: the mean of a sampler is not watched", "evaluation/properties/samplers.py",
           " and shift < _MAX_ERROR_SE * (2 * _N_CHAINS) ** -0.5", "", PROPERTIES),
    Mutant("verify: the batch is not watched", "evaluation/properties/methods.py",
           "not torch.equal(batch, x[:size])", "False", PROPERTIES),
    Mutant("verify: the old state is not watched", "evaluation/properties/methods.py",
           "any(not torch.equal(old[n], v) for n, v in state.items())", "False", PROPERTIES),
    # Binary states
    Mutant("block Gibbs: visible units are not drawn", "samplers/block_gibbs.py",
           "draw_states(energy.visible(h), generator)", "energy.visible(h).round()",
           STATE_SAMPLERS, f"{STATES} sampler=block_gibbs"),
    Mutant("Gibbs: sign of the difference", "samplers/gibbs.py",
           "torch.sigmoid(-change", "torch.sigmoid(change", STATE_SAMPLERS,
           f"{STATES} sampler=gibbs"),
    Mutant("Gibbs with gradients: no ratio of the proposals", "samplers/gibbs_with_gradients.py",
           "log_ratio = log_ratio + log_back - log_q.gather(1, site).squeeze(1)",
           "log_ratio = log_ratio + 0 * log_back", STATE_SAMPLERS, f"{STATES} sampler=gwg"),
    Mutant("RBM: a flip without the visible bias", "models/rbm.py",
           "-sign * a[sites] - change.sum(2)", "-change.sum(2)", "models/test_rbm.py"),
    Mutant("RBM: centred hidden biases", "models/rbm.py",
           "b - self.mean @ self.weight", "b", "models/test_rbm.py"),
    Mutant("Ising: each pair once", "models/ising.py",
           "self.constant - ((s @", "self.constant - ((s / 2 @", "models/test_ising.py"),
    Mutant("Ising: annealed fields of bits", "models/ising.py",
           "(1 - beta) * logits / 2", "(1 - beta) * logits", "models/test_ising.py"),
    Mutant("Potts: each pair twice", "models/potts.py",
           "pairs / 2 + self.fields", "pairs + self.fields", "models/test_potts.py"),
    Mutant("Potts: contacts without the correction", "models/potts.py",
           "score = norm - mean", "score = norm - 0 * mean", "models/test_potts.py"),
    Mutant("couplings of symbols: error without the gauge", "evaluation/couplings.py",
           "zero_sum(found - true)[i", "(found - true)[i", STATE_NUMBERS),
    Mutant("couplings of symbols: contacts of the truth", "evaluation/couplings.py",
           "contact_scores(found)[i, j]", "contact_scores(true)[i, j]", STATE_NUMBERS),
    Mutant("Potts samples: sums over pairs left out", "datasets/potts_samples.py",
           "if others:", "if len(others) > 1:", "datasets/test_potts_samples.py"),
    Mutant("FASTA: weights without the identity", "datasets/fasta.py",
           "near = same >= fewest", "near = same >= length", "datasets/test_fasta.py"),
    Mutant("torus: rows of samples without the rest", "torus.py",
           "p = p * self._products[r].matrix[:, first].T", "p = p * 1", "test_torus.py"),
    Mutant("Gibbs sweep: couplings of the former state", "models/sweep/ops.py",
           "one_hot[:, i] = (states == state).to(x)", "pass", "models/test_ising.py"),
    Mutant("pseudo-likelihood: of some sites without their share", "methods/pseudo_likelihood.py",
           "d * conditional_nll", "len(sites) * conditional_nll", "methods/test_state_methods.py"),
    Mutant("noise of states: of each bit at the full rate", "datasets/support.py",
           "(1 - math.exp(-t)) / 2, 1 - x, x", "1 - math.exp(-t), 1 - x, x",
           "methods/test_state_methods.py"),
    Mutant("states: KL without log Z", "evaluation/exact.py",
           "(true + all_energies + log_z)", "(true + all_energies)", STATE_NUMBERS),
    Mutant("states: annealing without the hidden units of the base", "evaluation/state_ais.py",
           "log_z + hidden_log_z", "log_z", STATE_NUMBERS),
    Mutant("states: chains restart at Gaussian noise", "methods/persistent_chains.py",
           "self.support.method_starts(first, self.noise_std, generator)",
           "torch.empty_like(first).normal_(generator=generator)", "methods/test_state_methods.py"),
    # One line each of methods, samplers, training and evaluation
    Mutant("noise: margin of the uniform box", "methods/noise.py",
           "margin = (width - 1) / 2 * (high - low)",
           "margin = (width - 1) * (high - low)",
           "methods/test_noise.py"),
    Mutant("noise: Silverman's exponent", "methods/noise.py",
           "** (1 / (d + 4))",
           "** (1 / (d + 2))",
           "methods/test_noise.py"),
    Mutant("noise: kernels without their number", "methods/noise.py",
           ".logsumexp(1) - math.log(len(centres))",
           ".logsumexp(1)",
           "methods/test_noise.py"),
    Mutant("noise: determinant of the root left out", "methods/noise.py",
           "return -squared / 2 - log_root - len(root)",
           "return -squared / 2 - len(root)",
           "methods/test_noise.py"),
    Mutant("noise: transposed root", "methods/noise.py",
           "return mean + z @ root.T",
           "return mean + z @ root",
           "methods/test_noise.py"),
    Mutant("noise: twice the covariance", "methods/noise.py",
           "covariance = centred.T @ centred / len(x)",
           "covariance = centred.T @ centred / (len(x) / 2)",
           "methods/test_noise.py"),
    Mutant("energy discrepancy: without the first perturbation", "methods/energy_discrepancy.py",
           "y = self.support.diffuse(x, self.t, generator)",
           "y = x",
           "methods/test_contrasting_laws.py"),
    Mutant("energy discrepancy: weight of the datum's own term", "methods/energy_discrepancy.py",
           "math.log(self.w))])",
           "0.0)])",
           "methods/test_contrasting_laws.py"),
    Mutant("hmc: one step size for all chains", "samplers/hmc.py",
           "uniform = torch.empty_like(state.energy).uniform_(generator=generator) * 2 - 1",
           "uniform = torch.empty_like(state.energy[:1]).uniform_(generator=generator) * 2 - 1",
           "samplers/test_metropolis.py"),
    Mutant("hmc: jitter on one side", "samplers/hmc.py",
           "uniform_(generator=generator) * 2 - 1",
           "uniform_(generator=generator)",
           "samplers/test_metropolis.py"),
    Mutant("adaptation: gain does not decay", "samplers/adaptation.py",
           "** -self.decay",
           "** -0.0",
           "samplers/test_chain.py"),
    Mutant("adaptation: sign", "samplers/adaptation.py",
           "(gain * error).exp()",
           "(-gain * error).exp()",
           "samplers/test_chain.py"),
    Mutant("adaptation: NaN counts as acceptance", "samplers/adaptation.py",
           ".nan_to_num(0.0)",
           ".nan_to_num(1.0)",
           "samplers/test_chain.py"),
    Mutant("tempering: one exchange partner left unmoved", "samplers/tempering.py",
           "return swap_rows(cold, hot, a, b), swap_rows(hot, cold, b, a), acceptance",
           "return swap_rows(cold, hot, a, b), hot, acceptance",
           "samplers/test_tempering.py"),
    Mutant("tempering: adaptation of the cold level at every level", "samplers/tempering.py",
           'if r == 0 else adaptation_state[f"hot_{name}"][r - 1]',
           "if r == 0 else adaptation_state[name]",
           "samplers/test_tempering.py"),
    Mutant("jumps: half of the chains see their own half", "samplers/jumps.py",
           "first, a = _jump(sampler, energy, first, second.x, temperature, g)",
           "first, a = _jump(sampler, energy, first, first.x, temperature, g)",
           "samplers/test_jumps.py"),
    Mutant("jumps: temperature left out", "samplers/jumps.py",
           "(state.energy - proposal.energy) / temperature",
           "(state.energy - proposal.energy)",
           "samplers/test_jumps.py"),
    Mutant("jumps: a zero difference", "samplers/jumps.py",
           "torch.randint(1, n_others,",
           "torch.randint(0, n_others,",
           "samplers/test_jumps.py"),
    Mutant("underdamped: initial velocity without the temperature", "samplers/underdamped.py",
           "v = self.temperature**0.5 * torch",
           "v = torch",
           "samplers/test_underdamped.py"),
    Mutant("underdamped: velocity is not kept", "samplers/underdamped.py",
           "return UnderdampedState(x, v, gradient, clipped), info",
           "return UnderdampedState(x, None, gradient, clipped), info",
           "samplers/test_underdamped.py"),
    Mutant("average: smaller decay of the first steps", "training/ema.py",
           "(1 + step) / (10 + step)",
           "step / (10 + step)",
           "training/test_loop.py"),
    Mutant("average: buffers are not copied", "training/ema.py",
           "kept.copy_(new)",
           "pass",
           "training/test_loop.py"),
    Mutant("schedule: warm-up starts at 0", "training/optimizers.py",
           "(step + 1) / max(self.warmup_steps, 1)",
           "step / max(self.warmup_steps, 1)",
           "training/test_loop.py"),
    Mutant("schedule: floor is added", "training/optimizers.py",
           "(self.floor + (1 - self.floor) * left) * warm",
           "(self.floor + left) * warm",
           "training/test_loop.py"),
    Mutant("schedule: cosine over two periods", "training/optimizers.py",
           "math.cos(math.pi * done)",
           "math.cos(2 * math.pi * done)",
           "training/test_loop.py"),
    Mutant("anomalies: recall of the inliers", "evaluation/ood_detection.py",
           "outliers > threshold(inliers, self.fpr)", "inliers > threshold(inliers, self.fpr)",
           "evaluation/test_ood_detection.py"),
    Mutant("anomalies: intervals without resampling", "evaluation/ood_detection.py",
           "x[torch.randint(len(x), (len(x),), generator=generator)]", "x",
           "evaluation/test_ood_detection.py"),
    Mutant("file: the anomalies are the normal rows", "datasets/file.py",
           "labels, without = label, 1", "labels, without = label, 0",
           "datasets/test_leave_class_out.py"),
    Mutant("AUROC: ties count as below", "evaluation/estimators/auroc.py",
           "return (n_below + n_not_above).double() / (2 * len(ordered))",
           "return n_not_above.double() / len(ordered)",
           "evaluation/estimators/test_auroc.py"),
    Mutant("AUROC: variance without the number", "evaluation/estimators/auroc.py",
           "float(s.var(correction=1)) / len(s)",
           "float(s.var(correction=1))",
           "evaluation/estimators/test_auroc.py"),
    Mutant("modes: coverage of half of the true weight", "evaluation/estimators/modes.py",
           "_MIN_RELATIVE_MASS = 0.1",
           "_MIN_RELATIVE_MASS = 0.5",
           "evaluation/test_quality.py"),
    Mutant("modes: error of one sample only", "evaluation/estimators/modes.py",
           "(1 / n_true + 1 / n)).sqrt()",
           "(1 / n)).sqrt()",
           "evaluation/test_verdict.py"),
    Mutant("modes: largest difference by its value", "evaluation/estimators/modes.py",
           "((true - weights).abs() / error).argmax()",
           "((true - weights).abs()).argmax()",
           "evaluation/test_verdict.py"),
    Mutant("temperature: trace of random directions is not a mean", "evaluation/temperature.py",
           "curvature /= len(axes)",
           "pass",
           "evaluation/test_temperature.py"),
    Mutant("temperature: ratio inverted in its error", "evaluation/temperature.py",
           "(square - value * curvature).std()",
           "(square - curvature).std()",
           "evaluation/test_temperature.py"),
    Mutant("autocorrelation: mean of each chain", "evaluation/estimators/mixing.py",
           "centred = trace - trace.mean()",
           "centred = trace - trace.mean(1, keepdims=True)",
           "evaluation/estimators/test_mixing.py"),
    Mutant("autocorrelation: pairs that are missing count", "evaluation/estimators/mixing.py",
           "(centred[:, : n - t] * centred[:, t:]).mean()",
           "(centred[:, : n - t] * centred[:, t:]).sum() / centred.size",
           "evaluation/estimators/test_mixing.py"),
    Mutant("runaway: bound without the dimensions", "evaluation/alarms.py",
           "_MAX_ENERGY_NATS + _MAX_ENERGY_PER_DIMENSION_NATS * dimensions",
           "_MAX_ENERGY_NATS",
           "evaluation/test_diagnostics.py"),
    Mutant("Gaussian reference: without the units", "evaluation/alarms.py",
           "+ units.log_volume",
           "",
           "evaluation/test_alarms.py"),
    Mutant("calibration: bins without their points", "evaluation/classification.py",
           "float(gap.abs().sum() / len(correct))",
           "float(gap.sum().abs() / len(correct))",
           "methods/test_jem.py"),
    Mutant("sliced Wasserstein: length of a step", "evaluation/estimators/discrepancies.py",
           "step = torch.cat([w, -w]) / len(x)",
           "step = torch.cat([w, -w]) / (2 * len(x))",
           "evaluation/estimators/test_discrepancies.py"),
    Mutant("FPR95: outliers at the limit", "evaluation/estimators/threshold.py",
           "(outliers.double() <= limit).double().mean()",
           "(outliers.double() < limit - 1).double().mean()",
           "evaluation/test_threshold.py"),
    Mutant("threshold: without the new point", "evaluation/estimators/threshold.py",
           "(len(inliers) + 1) * (1 - rate)",
           "len(inliers) * (1 - rate)",
           "evaluation/test_threshold.py"),
)  # fmt: skip


def planted(mutant: Mutant, place: Path) -> None:
    """
    Raises:
        SystemExit: the line does not occur exactly once.
    """
    path = place / "ebmtrain" / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.line) != 1:
        raise SystemExit(
            f"{mutant.name}: {mutant.line!r} occurs {text.count(mutant.line)} times in {path}"
        )
    path.write_text(text.replace(mutant.line, mutant.broken), encoding="utf-8")


def copied(place: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)


def code(place: Path, *words: str) -> int:
    """Exit code of `python words` in the copy, whose package it imports."""
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=place, env=environment, capture_output=True, check=False
    ).returncode


def tests_fail(place: Path, tests: str) -> bool:
    files = [f"tests/{name}" for name in tests.split()]
    return code(place, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files) == 1


def verify_fails(place: Path, words: str) -> bool:
    return code(place, "-m", "ebmtrain.cli.main", "verify", *words.split()) == 1


def examine(mutant: Mutant) -> tuple[bool, bool | None]:
    """True if the tests, and if `verify`, kill the mutant; None if `verify` was not run."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copied(place)
        planted(mutant, place)
        by_tests = tests_fail(place, mutant.tests)
        return by_tests, None if mutant.verify is None else verify_fails(place, mutant.verify)


def sound(mutants: list[Mutant]) -> None:
    """
    Raises:
        SystemExit: the unchanged project fails, so that failures of mutants mean nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copied(place)
        for tests in dict.fromkeys(m.tests for m in mutants):
            if tests_fail(place, tests):
                raise SystemExit(f"tests/{tests} fail without a mutant")
        for words in dict.fromkeys(m.verify for m in mutants if m.verify):
            if verify_fails(place, words):
                raise SystemExit(f"ebmtrain verify {words} fails without a mutant")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of names")
    parser.add_argument("--print", action="store_true", help="write no file")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.words or any(w in m.name for w in options.words)]
    sound(chosen)
    shown = {True: "killed", False: "**missed**", None: ""}
    lines = ["| error | file | tests | `ebmtrain verify` |", "|---|---|---|---|"]
    found = []
    for mutant in chosen:
        by_tests, by_verify = examine(mutant)
        found.append((by_tests, by_verify))
        words = f"{shown[by_verify]} ({mutant.verify})" if mutant.verify else ""
        lines.append(f"| {mutant.name} | {mutant.file} | {shown[by_tests]} | {words} |")
        print(lines[-1], flush=True)
    asked = [verify for _, verify in found if verify is not None]
    total = (
        f"Killed by the tests: {sum(tests for tests, _ in found)} of {len(found)}; "
        f"by `verify`: {sum(asked)} of {len(asked)}."
    )
    print(total)
    if not options.print and not options.words:
        about = (
            f"`python benchmarks/mutants.py`, {date.today()}, Python {platform.python_version()}, "
            f"torch {torch.__version__}."
        )
        text = "\n".join(["# Mutation tests", "", __doc__ or "", total, "", *lines, "", about, ""])
        (ROOT / "docs" / "mutants.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
