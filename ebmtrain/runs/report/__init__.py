"""Reports on many runs: leaderboards, comparisons at equal budgets, figures."""
