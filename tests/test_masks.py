"""What is there of a sequence, and what is not."""

from __future__ import annotations

import math

import torch
from ragged import padded
from repeats import normal
from torch import Tensor

from ebmtrain.masks import (
    channel_range,
    fill_zeros,
    finite_mask,
    lengths,
    normal_like,
    squared_norm,
    step_mask,
    truncate,
)

STEPS = [3, 16, 1, 9]


def test_a_sequence_ends_with_its_last_number():
    x = padded(STEPS)
    assert lengths(x).tolist() == STEPS
    assert step_mask(x).sum(1).tolist() == STEPS
    x[0, 2, 1] = math.nan  # another channel of this step holds a number
    x[1, 4] = math.nan  # in the middle
    assert lengths(x).tolist() == STEPS
    assert finite_mask(x).tolist() == [False, False, True, True]


def test_what_is_nan_altogether_is_no_mask():
    x = torch.full((2, 5, 3), math.nan)
    assert lengths(x).tolist() == [1, 1]
    assert fill_zeros(x, step_mask(x))[:, 0].isnan().all()
    assert not finite_mask(x).any()


def test_points_that_are_no_sequences_are_whole_or_not():
    x = normal(3, 4)
    x[1, 3], x[2, 0] = math.nan, math.inf
    assert finite_mask(x).tolist() == [True, False, False]


def test_no_gradient_and_no_nan_comes_back_from_a_step_that_is_not_there():
    x = padded(STEPS).requires_grad_()
    (gradient,) = torch.autograd.grad(fill_zeros(x, step_mask(x)).exp().sum(), x)
    torch.testing.assert_close(gradient, x.exp().nan_to_num(0.0))


def test_squares_are_summed_over_what_is_there():
    x, v = padded(STEPS), normal(4, 16, 2, seed=1)
    expected = torch.stack([v[i, :n].square().sum() for i, n in enumerate(STEPS)])
    torch.testing.assert_close(squared_norm(v, x), expected)
    x = normal(5, 3)
    torch.testing.assert_close(squared_norm(x, x), x.square().sum(1))


def test_noise_has_the_steps_of_its_model_and_the_numbers_of_any_other():
    def noise(x: Tensor) -> Tensor:
        return normal_like(x, torch.Generator().manual_seed(3))

    x = normal(4, 16, 2)
    torch.testing.assert_close(
        noise(padded(STEPS)), truncate(noise(x), torch.tensor(STEPS)), equal_nan=True
    )


def test_bounds_are_those_of_a_channel_over_all_steps():
    x = padded(STEPS)
    low, high = channel_range(x)
    held = x[step_mask(x)]
    assert low.shape == high.shape == (16, 2)
    assert (low == held.amin(0)).all()
    assert (high == held.amax(0)).all()
