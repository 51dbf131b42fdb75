"""Points to learn from, and the densities they were drawn from where those are known."""
