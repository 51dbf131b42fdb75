"""What is reported of a model: each evaluator returns numbers and warnings."""
