"""Laws that any energy, sampler and method obey, to be tried on a user's own."""
