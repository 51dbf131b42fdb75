"""`python -m ebmtrain`, as torchrun and other launchers start it."""

from ebmtrain.cli.main import entry

if __name__ == "__main__":
    entry()
