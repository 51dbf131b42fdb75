"""The command `ebmtrain`. Words like key=value train; a bare first word is a verb.

Imports neither torch nor matplotlib, so that help, listings and completion answer at once.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import signal
import sys

from ebmtrain.errors import ConfigError, EbmtrainError, OutputError, suggestion
from ebmtrain.runtime.memory_limit import bound
from ebmtrain.runtime.signals import heard
from ebmtrain.runtime.stdio import mute, prepare

VERBS = (
    "check", "evaluate", "init", "list", "plot", "report", "resume", "sample", "score", "verify",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 ok, 1 a job failed, 2 configuration or data, 3 diverged,
    4 checkpoint unusable, 5 run directory in use, 6 input or output, 7 refused as
    unsafe, 128 + n after signal n."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with heard():
            code = answer(words)
            _flush()
        return code
    except KeyboardInterrupt as stop:
        return 128 + getattr(stop, "signal", signal.SIGINT)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        mute()
        return 0
    except Exception as error:  # one line for whatever it is, and the exit code of its kind
        if debug:
            raise
        return complain(error, words)


def _flush() -> None:
    """What is still to be printed, while it can be said that it cannot.

    Raises:
        OutputError, BrokenPipeError: it cannot.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        mute()
        raise OutputError(f"cannot write standard output: {error.strerror}") from error


def answer(words: list[str]) -> int:
    """The exit code of the verb, or of training."""
    if words == ["--version"]:  # Hydra prints its own
        print(f"ebmtrain {importlib.metadata.version('ebmtrain')}")
        return 0
    verb = words[0] if words and _is_verb(words[0]) else None
    if "-h" in words or "--help" in words:
        from ebmtrain.cli import help

        print(help.page_of(verb) if verb else help.page(words), end="")
        return 0
    if verb:
        return importlib.import_module(f"ebmtrain.cli.{verb}").main(words[1:])
    return importlib.import_module("ebmtrain.cli.train").main(words)


def _is_verb(word: str) -> bool:
    """True for a known verb, False for what Hydra reads.

    Raises:
        ConfigError: for a bare word that is neither.
    """
    if word in VERBS:
        return True
    if word.startswith(("-", "+", "~")) or "=" in word:
        return False
    if word == "train":
        raise ConfigError("there is no verb train: ebmtrain alone trains, with key=value behind it")
    known = _known_keys()
    if word in known:
        raise ConfigError(f"{word} is given no value: {word}=...")
    raise ConfigError(f"unknown verb {word}{suggestion(word, VERBS)} (to train, give key=value)")


def _known_keys() -> set[str]:
    """Dotted keys of the default configuration, and the groups."""
    from ebmtrain.cli.arguments import leaves
    from ebmtrain.config import presets

    presets.prepare(None)
    return {*leaves(presets.plain(presets.composed([]))), *presets.groups()}


def complain(error: Exception, words: list[str]) -> int:
    """One clear line (one per problem), and the exit code. What nobody foresaw is our fault, and
    is shown in full by --debug."""
    if isinstance(error, EbmtrainError):
        lines, code = str(error).splitlines(), error.exit_code
    else:
        from ebmtrain.cli.arguments import explain

        lines, code = explain(error, words)
    said = [f"ebmtrain: {_printable(line)}" for line in lines]
    if len(lines) > 1:
        said = [f"ebmtrain: {len(lines)} problems", *(f"  - {_printable(line)}" for line in lines)]
    # In one write, or the lines of processes that speak at once would be mixed.
    print("\n".join(said) + "\n", end="", file=sys.stderr)
    return code


def _printable(line: str) -> str:
    """A terminal would obey the control characters of a name; they are shown as Python writes
    them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def entry() -> None:
    """The console script."""
    prepare()
    bound()
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
