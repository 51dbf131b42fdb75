"""C++ of ours, compiled by the machine's own compiler where it is first used: `device.native`.

That takes some seconds, once: it is kept in the user's cache folder, for this kind of processor.
Nothing depends on it: where there is no compiler, or it fails, torch's operations do the same in
more time.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from ebmtrain.runtime.compiler_cache import cache_folder

_COMPILERS = ("c++", "g++", "clang++")
_COMMON_OPTIONS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-strict-aliasing")
_TORCH_DIR = Path(torch.__file__).parent  # its libraries are loaded before the compiled one
_OPTION_SETS = (  # in turn, until one is granted
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
COMPILE_TIMEOUT_S = 120.0  # seconds
_enabled = True
_rejected: dict[str, str] = {}  # why, for each source


def set_enabled(wanted: bool) -> None:
    """For the whole process."""
    global _wanted
    _enabled = wanted


def enabled() -> bool:
    return _enabled


def reject(source: Path, reason: str) -> None:
    """It is not used, which is for those to hear who begin or resume a run."""
    _rejected[source.name] = reason


def rejections() -> list[str]:
    """A line for each source that is wanted and not used. (Not logged where it is found out: the
    first to ask is whoever builds a model, before there is a run to have a log.)"""
    if not _enabled:
        return []
    return [
        f"{name} is not used ({reason}): torch's operations take its place, which are slower; "
        "install g++ or name a compiler by CXX, or device.native=false"
        for name, reason in _rejected.items()
    ]


class CompilerError(Exception):
    """There is no compiler, or it cannot do it."""


@cache
def library(source: Path) -> ctypes.CDLL | None:
    """The library that this file makes; None where there is none, see `rejections`."""
    try:
        with library_folder() as folder:
            found = _open(source, folder)
    except (CompilerError, OSError) as error:
        reject(source, str(error))
        return None
    _rejected.pop(source.name, None)
    return found


@contextmanager
def library_folder() -> Iterator[Path]:
    """Where libraries are kept; else a folder that goes once they have been opened."""
    if folder := cache_folder("native"):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ebmtrain-") as temporary:
        yield Path(temporary)


def _open(source: Path, folder: Path) -> ctypes.CDLL:
    """
    Raises:
        CompilerError, OSError: see `compile_library`.
        OSError: what the compiler makes cannot be opened.
    """
    try:
        return ctypes.CDLL(str(compile_library(source, folder)))
    except OSError:  # damaged, or it wants a library that another machine of this home has
        compile_library(source, folder).unlink()
        return ctypes.CDLL(str(compile_library(source, folder)))


def compile_library(source: Path, folder: Path) -> Path:
    """The library in this folder, where it is made if it is not there.

    Raises:
        CompilerError: it could not be.
        OSError: the folder cannot be written.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, _COMPILERS), None)
    if compiler is None:
        raise CompilerError("no C++ compiler: " + ", ".join(_COMPILERS))
    files = [source, *sorted(source.parent.glob("*.h"))]
    text = [file.read_bytes() for file in files]
    made_of = text, compiler, _COMMON_OPTIONS, _OPTION_SETS, _TORCH_DIR, torch.__version__
    name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    kept = folder / f"{source.stem}-{name}.so"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            made = Path(fresh) / kept.name
            _run_compiler(made, source, compiler)
            with made.open("rb") as file:
                os.fsync(file.fileno())  # a power loss is not to leave a part under this name
            made.replace(kept)  # at once: another process may be at it
    return kept


def _run_compiler(made: Path, source: Path, compiler: str) -> None:
    """
    Raises:
        CompilerError: no set of options would do, or the compiler was stopped.
    """
    reason = ""
    for command in _commands(made, source, compiler):
        try:
            # In a session of its own: what interrupts training does not stop the compiler.
            ended = subprocess.run(
                command, capture_output=True, timeout=COMPILE_TIMEOUT_S, start_new_session=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompilerError(f"{compiler}: {error}") from error
        if ended.returncode == 0 and made.exists():
            return
        if ended.returncode < 0:  # which says nothing of the options
            raise CompilerError(f"{compiler}: stopped by signal {-ended.returncode}")
        said = " ".join(ended.stderr.decode(errors="replace").split())[:200]
        reason = said or f"exit code {ended.returncode}, and nothing made"
    raise CompilerError(f"{compiler}: {reason}")


def _commands(made: Path, source: Path, compiler: str) -> Iterator[list[str]]:
    headers, libraries = str(_TORCH_DIR / "include"), str(_TORCH_DIR / "lib")
    # -Wl,-rpath,... would end at a comma in the path.
    linked = ["-L", libraries, "-ltorch_cpu", "-Xlinker", "-rpath", "-Xlinker", libraries]
    for wish in _OPTION_SETS:
        ours = [*_COMMON_OPTIONS, *wish, "-isystem", headers, str(source), "-o", str(made)]
        yield [*compiler.split(), *ours, *linked]
