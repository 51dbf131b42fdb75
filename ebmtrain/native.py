"""C++ of ours, compiled by the machine's own compiler where it is first used: `device.native`.

That takes a second, once: it is kept in the user's cache folder, for this kind of processor.
Nothing depends on it: where there is no compiler, or it fails, torch's operations do the same in
more time.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ebmtrain.compiler_cache import folder_of

LOG = logging.getLogger("ebmtrain")
COMPILERS = ("c++", "g++", "clang++")
ALWAYS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-strict-aliasing")
WISHES = (  # in turn, until one is granted
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
PATIENCE = 120.0  # seconds


_wanted = True


def use(wanted: bool) -> None:
    """For the whole process."""
    global _wanted
    _wanted = wanted


def wanted() -> bool:
    return _wanted


class NotCompiledError(Exception):
    """There is no compiler, or it cannot do it."""


@cache
def library(source: Path) -> ctypes.CDLL | None:
    """The library that this file makes; None, and a line that says why, where there is none."""
    try:
        return ctypes.CDLL(str(compiled(source)))
    except (NotCompiledError, OSError) as error:
        LOG.info("%s is not compiled (%s): torch's operations take its place", source.name, error)
        return None


def compiled(source: Path) -> Path:
    """
    Raises:
        NotCompiledError: it could not be.
        OSError: neither the cache nor a folder for temporary files can be written.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise NotCompiledError("no C++ compiler: " + ", ".join(COMPILERS))
    files = [source, *sorted(source.parent.glob("*.h"))]
    text = [file.read_bytes() for file in files]
    name = hashlib.sha256(repr((text, compiler, ALWAYS, WISHES)).encode()).hexdigest()[:16]
    folder = folder_of("native") or Path(tempfile.mkdtemp(prefix="ebmtrain-"))
    kept = folder / f"{source.stem}-{name}.so"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            made = Path(fresh) / kept.name
            compile_to(made, source, compiler)
            made.replace(kept)  # at once: another process may be at it
    return kept


def compile_to(made: Path, source: Path, compiler: str) -> None:
    """
    Raises:
        NotCompiledError: no set of options would do.
    """
    reason = ""
    for command in commands(made, source, compiler):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
            return
        except subprocess.CalledProcessError as error:
            reason = " ".join(error.stderr.split())[:200]
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotCompiledError(f"{compiler}: {error}") from error
    raise NotCompiledError(f"{compiler}: {reason}")


def commands(made: Path, source: Path, compiler: str) -> Iterator[list[str]]:
    for wish in WISHES:
        yield [*compiler.split(), *ALWAYS, *wish, str(source), "-o", str(made)]
