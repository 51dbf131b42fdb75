"""Estimators of log Z, distances, effective sample sizes and their errors."""
