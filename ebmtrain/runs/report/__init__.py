"""Many runs side by side: a leaderboard, the same at equal budgets, and pictures of all."""
