"""The package's C++ libraries, compiled on this machine at first use: `device.native`.

A library is kept in the user's cache folder, by kind of processor. Without a compiler, or if the
compilation fails, torch's operations compute the same in more time.
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
_OPTION_SETS = (  # tried in turn, until the compiler accepts one
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
COMPILE_TIMEOUT_S = 120.0
_enabled = True
_triton_enabled = False
_rejected: dict[str, str] = {}  # file name of a source -> reason


def set_enabled(value: bool, *, triton: bool = False) -> None:
    """Allows or forbids C++ libraries, and the Triton kernel on a GPU, in the whole process."""
    global _enabled, _triton_enabled
    _enabled, _triton_enabled = value, triton


def enabled() -> bool:
    """True if C++ libraries are allowed in this process."""
    return _enabled


def triton_enabled() -> bool:
    """True if the Triton kernel is allowed in this process."""
    return _triton_enabled


def reject(source: Path, reason: str) -> None:
    """Records that the library of this source is not used. `rejections` reports it."""
    _rejected[source.name] = reason


def rejections() -> list[str]:
    """One message for each source that is allowed but not used. A run logs them when it begins or
    resumes: `library` is first called when it has no log yet."""
    if not _enabled:
        return []
    return [
        f"{name} is not used ({reason}): torch's operations take its place, which are slower; "
        "install g++ or name a compiler by CXX, or device.native=false"
        for name, reason in _rejected.items()
    ]


class _CompilerError(Exception):
    """There is no compiler, or the compilation failed."""


@cache
def library(source: Path) -> ctypes.CDLL | None:
    """The library compiled from this file, loaded; None if there is none: see `rejections`."""
    try:
        with _library_folder() as folder:
            found = _open(source, folder)
    except (_CompilerError, OSError) as error:
        reject(source, str(error))
        return None
    _rejected.pop(source.name, None)
    return found


@contextmanager
def _library_folder() -> Iterator[Path]:
    """The folder of compiled libraries; without a cache folder, a temporary one, which is deleted
    after the library is loaded."""
    if folder := cache_folder("native"):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ebmtrain-") as temporary:
        yield Path(temporary)


def _open(source: Path, folder: Path) -> ctypes.CDLL:
    """Loads the library. A file that cannot be loaded is compiled again, once."""
    try:
        return ctypes.CDLL(str(_compile_library(source, folder)))
    except OSError:  # damaged, or linked on another machine that shares this home directory
        _compile_library(source, folder).unlink()
        return ctypes.CDLL(str(_compile_library(source, folder)))


def _compile_library(source: Path, folder: Path) -> Path:
    """Path of the library in this folder, compiled if it does not exist. Raises _CompilerError if
    the compilation fails, and OSError if the folder cannot be written."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, _COMPILERS), None)
    if compiler is None:
        raise _CompilerError("no C++ compiler: " + ", ".join(_COMPILERS))
    files = [source, *sorted(source.parent.glob("*.h"))]
    text = [file.read_bytes() for file in files]
    inputs = text, compiler, _COMMON_OPTIONS, _OPTION_SETS, _TORCH_DIR, torch.__version__
    digest = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    path = folder / f"{source.stem}-{digest}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            output = Path(temporary) / path.name
            _run_compiler(output, source, compiler)
            with output.open("rb") as file:
                os.fsync(file.fileno())  # no partial file under the final name after a power loss
            output.replace(path)  # atomic: another process may compile the same file
    return path


def _run_compiler(output: Path, source: Path, compiler: str) -> None:
    """Compiles the source with the first set of options that the compiler accepts."""
    include, lib = str(_TORCH_DIR / "include"), str(_TORCH_DIR / "lib")
    files = ["-isystem", include, str(source), "-o", str(output)]
    # Not -Wl,-rpath,PATH: a comma in the path would end it.
    linking = ["-L", lib, "-ltorch_cpu", "-Xlinker", "-rpath", "-Xlinker", lib]
    reason = ""
    for options in _OPTION_SETS:
        command = [*compiler.split(), *_COMMON_OPTIONS, *options, *files, *linking]
        try:
            # A session of its own: a signal that interrupts training does not stop the compiler.
            process = subprocess.run(
                command, capture_output=True, timeout=COMPILE_TIMEOUT_S, start_new_session=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _CompilerError(f"{compiler}: {error}") from error
        if process.returncode == 0 and output.exists():
            return
        if process.returncode < 0:  # not caused by the options: no other set is tried
            raise _CompilerError(f"{compiler}: stopped by signal {-process.returncode}")
        stderr = " ".join(process.stderr.decode(errors="replace").split())[:200]
        reason = stderr or f"exit code {process.returncode}, and no output file"
    raise _CompilerError(f"{compiler}: {reason}")
