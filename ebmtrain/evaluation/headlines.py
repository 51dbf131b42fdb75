"""The headline metric of a run. Imports no torch, since sweeps and reports use it too."""

from __future__ import annotations

# Metric -> label, most informative first: the first that a run has is its headline.
HEADLINES = {"kl": "KL", "regret": "regret", "nll": "NLL"}
