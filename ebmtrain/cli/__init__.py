"""One small file per verb; each has main(arguments) -> exit code."""
