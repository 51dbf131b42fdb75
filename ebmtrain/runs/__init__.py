"""Runs: launch, session, evaluation, sampling, and opening a saved one."""
