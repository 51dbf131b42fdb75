"""C++ of ours: compiled once, found again, and never missed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import HANG_S

from ebmtrain.models.perceptron import ops as perceptron_library
from ebmtrain.models.perceptron import selfcheck
from ebmtrain.runtime import native
from ebmtrain.runtime.compiler_cache import cache_folder


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "_rejected", {})
    monkeypatch.setattr(native, "_enabled", True)
    native.library.cache_clear()
    yield tmp_path / "two.cpp"
    native.library.cache_clear()


def rejections_of(source):
    """What a run would say of it."""
    return "\n".join(line for line in native.rejections() if line.startswith(source.name))


@pytest.fixture
def library_files(source):
    """The folder in which libraries are kept."""
    with native._library_folder() as folder:
        yield folder


def write(source, number):
    source.write_text(f'extern "C" int two() {{ return {number}; }}\n')
    native.library.cache_clear()
    return source


@pytest.mark.slow
def test_source_is_compiled_once(source, library_files, monkeypatch):
    assert native.library(write(source, 2)).two() == 2
    first = native._compile_library(source, library_files)
    with monkeypatch.context() as patched:
        patched.setattr(native, "_run_compiler", None)  # it would fail
        assert native._compile_library(source, library_files) == first
    assert native.library(write(source, 3)).two() == 3
    assert native._compile_library(source, library_files) != first
    source.with_name("part.h").write_text("// changed")
    assert len({first, native._compile_library(source, library_files)}) == 2
    assert not [path for path in library_files.iterdir() if path.suffix != ".so"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"no library at all"])
def test_a_damaged_library_is_compiled_again(source, library_files, damage):
    path = native._compile_library(write(source, 2), library_files)
    path.unlink()  # and not changed in place: it may be in use
    path.write_bytes(damage)
    assert native.library(source).two() == 2
    assert path.read_bytes()[:4] == b"\x7fELF" or sys.platform != "linux"


def test_a_library_is_synced_before_it_is_renamed(source, library_files, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    path = native._compile_library(write(source, 2), library_files)
    assert synced == [path.stat().st_ino]


def test_an_interrupted_compiler_does_not_rule_out_its_options(source, library_files, monkeypatch):
    """A library without threads would be kept for good."""
    compiler = source.with_name("compiler")
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) kill -TERM $$;; esac\nc++ "$@"\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CXX", str(compiler))
    assert native.library(write(source, 2)) is None
    assert "stopped by signal 15" in rejections_of(source)
    assert not list(library_files.iterdir())


@pytest.mark.parametrize(
    ("compiler", "told"),
    [
        ("no-such-compiler", "No such file"),
        ("false", "false: exit code 1"),
        ("true", "true: exit code 0, and no output file"),
        ("", "no C++ compiler"),
    ],
)
def test_a_missing_compiler_gives_one_warning(source, monkeypatch, compiler, told):
    """One line, and None."""
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(shutil, "which", lambda name: None)
    assert native.library(write(source, 2)) is None
    assert told in rejections_of(source)
    assert "torch's operations take its place" in rejections_of(source)
    native.set_enabled(False)
    assert not native.rejections()  # who does not want it need not hear of it


def test_unsupported_compiler_options_are_dropped(source, monkeypatch):
    """A compiler that knows none of them does as it can."""
    monkeypatch.setattr(native, "_OPTION_SETS", (("-no-such-option",), ()))
    assert native.library(write(source, 2)).two() == 2


@pytest.mark.slow
def test_compiler_errors_are_reported(source):
    source.write_text("no C++ at all\n")
    assert native.library(source) is None
    assert "error" in rejections_of(source)
    write(source, 2)
    assert native.library(source).two() == 2
    assert not rejections_of(source)


def test_without_a_cache_folder_no_file_is_kept(source, tmp_path, monkeypatch):
    """Nothing of it is left behind."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert native.library(write(source, 2)).two() == 2
    assert {path.name for path in tmp_path.iterdir()} == {"file", "two.cpp"}


def test_a_folder_writable_by_others_is_no_cache(source, library_files, monkeypatch):
    """They could put a library of theirs there, which would be run."""
    assert library_files.stat().st_mode & 0o777 == 0o700
    assert cache_folder("native") == library_files
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: library_files.stat().st_uid + 1)
        assert cache_folder("native") is None
    library_files.chmod(0o777)
    assert cache_folder("native") is None
    assert native.library(write(source, 2)).two() == 2
    assert not list(library_files.iterdir())


@pytest.mark.slow
def test_torch_may_be_installed_in_any_path(source, library_files, tmp_path, monkeypatch):
    place = tmp_path / "here, and there"
    place.symlink_to(native._TORCH_DIR)
    monkeypatch.setattr(native, "_TORCH_DIR", place)
    source.write_text(
        "#include <torch/csrc/inductor/aoti_torch/c/shim.h>\n"
        'extern "C" int two() { return 2 + aoti_torch_device_type_cpu(); }\n'
    )
    cpp = native.library(source)
    assert cpp is not None, rejections_of(source)
    assert cpp.two() == 2


MUTATIONS = [  # (file, text before it, expression, wrong expression)
    ("layers.h", "broadcast(", "0.01f", "0.02f"),
    ("layers.h", "a2 = ds * (", "2.0f", "3.0f"),
    ("lanes.h", "n * ", "4.83751297e-4f", "4.83751297e-2f"),
    ("layers.h", "a3 = ds * (", "3.0f", "2.0f"),
    ("layers.h", "sum = sum - ", "phase_term", "-1.0f * phase_term"),
    ("perceptron.h", "current[i] = current[i] + ", "adjoint_h2[i]", "current[i]"),
    ("perceptron.h", "+ ", "2.0f * square_factor", "square_factor"),
    ("perceptron.h", "return ", "offset + slope * values", "offset + slope"),
    ("perceptron.h", "tape.p[i] * ", "tape.gradient_x[i]", "constant(1.0f)"),
    ("chains.h", "kick(net, tape, size, ", "t ? 1.0f : 0.5f", "1.0f"),
    ("chains.h", "noise += ", "noise_stride", "0"),
    ("chains.h", "tape.gradient_x[i] + ", "precision * tape.x[i]", "constant(0.0f)"),
]
SELECTION = 'inline int mutation = 0;\nextern "C" void select_mutation(int n) { mutation = n; }\n'


@pytest.mark.slow
def test_a_library_with_wrong_results_is_not_used(source):
    """One library has all mutations, none of which is active until it is selected: a compilation
    for each would take half a minute."""
    folder = source.parent / "mutations"
    folder.mkdir()
    for part in perceptron_library.SOURCE, *perceptron_library.SOURCE.parent.glob("*.h"):
        shutil.copy(part, folder)
    for number, (file, before, right, wrong) in enumerate(MUTATIONS, 1):
        text = (folder / file).read_text()
        assert text.count(before + right) == 1, right
        changed = f"{before}(mutation == {number} ? ({wrong}) : ({right}))"
        (folder / file).write_text(text.replace(before + right, changed))
    main = folder / perceptron_library.SOURCE.name
    main.write_text(SELECTION + main.read_text())
    worker = [sys.executable, str(Path(__file__).with_name("mutations.py")), str(folder)]
    ended = subprocess.run(
        [*worker, str(len(MUTATIONS))], capture_output=True, text=True, timeout=HANG_S
    )
    assert ended.returncode == 0, ended.stderr
    right, *wrong = ended.stdout.splitlines()
    assert right == "True"
    for mutation, line in zip(MUTATIONS, wrong, strict=True):
        assert line.startswith("False perceptron.cpp is not used"), mutation
        assert "disagrees with autograd" in line, mutation


@pytest.fixture
def other_libraries(monkeypatch):
    """The libraries loaded in this test are not those of other tests."""
    monkeypatch.setattr(native, "_rejected", {})
    monkeypatch.setattr(native, "_enabled", True)
    for cached in (native.library, selfcheck.self_check):
        cached.cache_clear()
    yield
    for cached in (native.library, selfcheck.self_check):
        cached.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "other_libraries")
def test_a_run_without_a_compiler_gives_a_warning(command, folder, tiny, monkeypatch):
    """In run.log, after the model is built; the run itself finishes."""
    words = [*tiny, "train.steps=2"]
    with monkeypatch.context() as patch:
        patch.setenv("CXX", "false")
        assert command(*words, "hydra.run.dir=without").code == 0
        checked = command("check", *words)
    native.library.cache_clear()
    selfcheck.self_check.cache_clear()
    assert command(*words, "hydra.run.dir=with").code == 0
    line = "perceptron.cpp is not used (false: exit code 1, and no output file): torch's operations"
    assert (folder / "without/run.log").read_text().count(line) == 1
    assert checked.code == 0
    assert checked.out.count(line) == 1
    assert "is not used" not in (folder / "with/run.log").read_text()
