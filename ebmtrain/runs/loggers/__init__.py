"""Loggers of a run: where its rows of metrics and its figures go. See `types.Logger`."""
