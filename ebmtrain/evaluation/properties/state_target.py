"""A density of 3 x 3 binary states whose 512 probabilities are known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.estimators.states import all_states
from ebmtrain.evaluation.properties.result import seeded_generator
from ebmtrain.models.rbm import Layers, Rbm

_SITES, _HIDDEN = 9, 4


class StateTarget(Rbm):
    """An RBM with random weights of standard deviation 1, which are multiplied by a parameter a.
    Any sampler of states takes it, those with hidden units too."""

    def __init__(self, a: float):
        with torch.random.fork_rng(devices=[]):
            super().__init__(hidden=_HIDDEN, event_shape=(_SITES,))
        for parameter in self.parameters():
            parameter.requires_grad_(False).normal_(generator=seeded_generator(parameter.numel()))
        self.a = nn.Parameter(torch.tensor(a))

    @property
    def layers(self) -> Layers:
        return Layers(
            self.visible_bias, self.a * self.hidden_bias, self.a * self.weight, self.event_shape
        )

    @torch.no_grad()
    def distribution(self, temperature: float) -> tuple[Tensor, Tensor]:
        """All states, (512, 9), and the probabilities of exp(-E / T), (512,), float64."""
        (states,) = all_states(_SITES)
        e = self(states.to(self.weight)).double()
        return states, torch.softmax(-e / temperature, 0)

    def draw(self, count: int, temperature: float) -> Tensor:
        """Independent samples of exp(-E / T), (count, 9), float64."""
        states, p = self.distribution(temperature)
        return states[torch.multinomial(p, count, True, generator=seeded_generator(1))]

    @torch.no_grad()
    def statistics(self, x: Tensor) -> Tensor:
        """Each state, each product of two and the energy, (n, 9) -> (n, 46)."""
        i, j = torch.triu_indices(_SITES, _SITES, 1)
        energy = self(x.to(self.weight)).to(x)
        return torch.cat([x, x[:, i] * x[:, j], energy[:, None]], 1)
