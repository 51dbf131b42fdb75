"""Properties that every energy, sampler and method must have, checked for a user's own parts."""
