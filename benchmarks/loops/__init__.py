"""The training loops that benchmarks/peers.py compares, one file for each tool. Each takes a
`Setting` and returns a function that trains for one epoch. All start from `setting.common` and make
the same updates."""
