"""Evaluators: each returns numbers about a model, and warnings."""
