"""The training loops that benchmarks/peers.py compares, a tool a file: each takes a `Setting` and
returns what trains for an epoch. All start from `setting.common` and make the same updates."""
