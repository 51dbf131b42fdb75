"""The number of a run. Imports no torch: sweeps and reports name it too."""

from __future__ import annotations

# Metric and what people call it; the first of these that was measured is the number of the run.
HEADLINES = {"kl": "KL", "regret": "regret", "nll": "NLL"}
