"""Estimators of log Z, two-sample distances, effective sample sizes and their errors."""
