"""The command line: `main` dispatches to one file per verb with `main(arguments) -> exit code`."""
