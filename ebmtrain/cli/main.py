"""The command `ebmtrain`. Arguments of the form key=value train; a bare first argument is a verb.

Imports neither torch nor matplotlib, so that help, listings and completion answer at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import partial

from ebmtrain.errors import ConfigError, EbmtrainError, OutputError, suggestion
from ebmtrain.runtime.memory_limit import limit_to_free_memory
from ebmtrain.runtime.processes import process_count, read_environment
from ebmtrain.runtime.signals import TerminationSignal, raise_on_signals
from ebmtrain.runtime.stdio import leave_deleted_folder, repair_streams, silence_stdout

VERBS = (
    "check", "completion", "evaluate", "export", "init", "list", "plot", "report", "resume",
    "sample", "score", "search", "verify",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Runs the verb, or trains; returns the exit code.

    0 ok, 1 a job failed, 2 configuration or data, 3 diverged, 4 checkpoint unusable, 5 run
    directory in use, 6 input or output, 7 refused as unsafe, 128 + n after signal n.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = _verb_first([argument for argument in arguments if argument != "--debug"])
    gone, place = leave_deleted_folder(), read_environment()
    try:
        with raise_on_signals():
            code = _run(arguments)
            _flush_stdout()
        return code
    except KeyboardInterrupt as stop:
        return 128 + (stop.signal if isinstance(stop, TerminationSignal) else signal.SIGINT)
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does
        silence_stdout()
        return 0
    except Exception as error:  # one line, and the exit code of its kind
        if debug:
            raise
        rank = f"rank {place.rank}: " if place is not None and place.rank else ""
        remark = _FOLDER_DELETED if gone else ""
        return print_error(_stdout_error(error), arguments, remark, rank)


def _run(arguments: list[str]) -> int:
    """What `main` does, without its handling of errors."""
    if process_count() > 1:
        return importlib.import_module("ebmtrain.runs.team").take_part(partial(_do, arguments))
    return _do(arguments)


def _do(arguments: list[str]) -> int:
    """Runs the verb, or trains."""
    verb = arguments[0] if arguments and _is_verb(*arguments) else None
    if arguments == ["--version"]:  # Hydra prints its own
        from importlib.metadata import version

        print(f"ebmtrain {version('ebmtrain')}")
    elif "-h" in arguments or "--help" in arguments:
        from ebmtrain.cli import help

        print(help.verb_help(verb) if verb else help.general_help(arguments), end="")
    else:
        return importlib.import_module(f"ebmtrain.cli.{verb or 'train'}").main(
            arguments[1:] if verb else arguments
        )
    return 0


def _stdout_error(error: Exception) -> Exception:
    """The error that names standard output, if writing to it fails; else the error itself."""
    # Errors of the system have a number; Hydra derives some of its own from OSError.
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        try:
            print(flush=True)  # the text that could not be written is no longer in the buffer
        except OSError as again:
            silence_stdout()
            return OutputError(f"cannot write standard output: {again.strerror}")
    return error


_FOLDER_DELETED = "; the current folder was deleted: change to another, or give absolute paths"


def _flush_stdout() -> None:
    """Writes buffered output now, while a failure can still be reported. Raises BrokenPipeError if
    the reader closed the pipe, and OutputError for another reason."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise OutputError(f"cannot write standard output: {error.strerror}") from error


def _verb_first(arguments: list[str]) -> list[str]:
    """The arguments with a verb that follows `--config-dir DIR` at their start."""
    for i, argument in enumerate(arguments):
        if argument in ("--config-dir", "-cd"):
            continue
        if i and arguments[i - 1] in ("--config-dir", "-cd"):
            continue
        if argument.startswith(("--config-dir=", "-cd=")):
            continue
        if argument in VERBS:
            return [argument, *arguments[:i], *arguments[i + 1 :]]
        break
    return arguments


def _is_verb(argument: str, *following: str) -> bool:
    """True for a verb, False for an argument of Hydra; raises ConfigError for any other."""
    if argument in VERBS:
        return True
    if argument.startswith(("-", "+", "~")) or "=" in argument:
        return False
    from ebmtrain.cli.arguments import dotted_keys
    from ebmtrain.cli.habits import verb_habit, word_habit
    from ebmtrain.config.presets import Presets, compose_config, to_plain

    if argument in ("train", "fit", "run"):
        words = [word if "=" in word else word_habit(word, Presets()) for word in following]
        example = " ".join(filter(None, words)) or "method=pcd"
        raise ConfigError(f"there is no verb {argument}: type ebmtrain {example}")
    if argument in {*dotted_keys(to_plain(compose_config())), *Presets().groups()}:
        raise ConfigError(f"{argument} is given no value: {argument}=...")
    if answer := verb_habit(argument):
        raise ConfigError(f"there is no verb {argument}: {answer}")
    if answer := word_habit(argument, Presets()):
        raise ConfigError(f"{argument} is no verb and no key=value: give {answer}")
    raise ConfigError(
        f"unknown verb {argument}{suggestion(argument, VERBS)} (to train, give key=value)"
    )


def print_error(error: Exception, arguments: list[str], remark: str = "", rank: str = "") -> int:
    """Prints one line per problem; returns the exit code.

    Args:
        remark: at the end of each line.
        rank: at its start.
    """
    if isinstance(error, EbmtrainError):
        lines, code = str(error).splitlines(), error.exit_code
    else:
        from ebmtrain.cli.arguments import explain_error

        lines, code = explain_error(error, arguments)
    # A terminal would interpret control characters: they are written as Python escapes.
    lines = [
        "".join(c if c.isprintable() else repr(c)[1:-1] for c in f"{rank}{line}{remark}")
        for line in lines
    ]
    messages = [f"ebmtrain: {line}" for line in lines]
    if len(lines) > 1:
        messages = [f"ebmtrain: {len(lines)} problems", *(f"  - {line}" for line in lines)]
    # In one write, so that the lines of concurrent processes are not mixed.
    print("\n".join(messages) + "\n", end="", file=sys.stderr)
    return code


def entry() -> None:
    """The console script."""
    repair_streams()
    os.environ["MPLBACKEND"] = "agg"  # no window is opened; matplotlib refuses an unknown name
    limit_to_free_memory()
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
