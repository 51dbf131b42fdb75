"""One small file per verb; each has main(words) -> exit code."""
