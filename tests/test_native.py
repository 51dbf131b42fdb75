"""C++ of ours: compiled once, found again, and never missed."""

from __future__ import annotations

import logging
import shutil

import pytest

from ebmtrain import native
from ebmtrain.models import perceptron, perceptron_library


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield tmp_path / "two.cpp"
    native.library.cache_clear()


def write(source, number):
    source.write_text(f'extern "C" int two() {{ return {number}; }}\n')
    native.library.cache_clear()
    return source


def test_compiled_once(source, monkeypatch):
    assert native.library(write(source, 2)).two() == 2
    kept = native.compiled(source)
    with monkeypatch.context() as patched:
        patched.setattr(native, "compile_to", None)  # it would fail
        assert native.compiled(source) == kept
    assert native.library(write(source, 3)).two() == 3
    assert native.compiled(source) != kept
    source.with_name("part.h").write_text("// changed")
    assert len({kept, native.compiled(source)}) == 2
    left = [path for path in kept.parent.iterdir() if path.suffix != ".so"]
    assert not left


@pytest.mark.parametrize(
    ("compiler", "told"),
    [("no-such-compiler", "No such file"), ("false", "false: "), ("", "no C++ compiler")],
)
def test_without_a_compiler(source, monkeypatch, caplog, compiler, told):
    """One line, and None."""
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.INFO, "ebmtrain"):
        assert native.library(write(source, 2)) is None
    assert told in caplog.text
    assert "torch's operations take its place" in caplog.text


def test_options_are_wishes(source, monkeypatch):
    """A compiler that knows none of them does as it can."""
    monkeypatch.setattr(native, "WISHES", (("-no-such-option",), ()))
    assert native.library(write(source, 2)).two() == 2


def test_errors_of_the_source_are_told(source, caplog):
    source.write_text("no C++ at all\n")
    with caplog.at_level(logging.INFO, "ebmtrain"):
        assert native.library(source) is None
    assert "error" in caplog.text


def test_without_a_place_to_keep_it(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert native.library(write(source, 2)).two() == 2


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("layers.h", "0.01f", "0.02f"),
        ("layers.h", "(2.0f + z", "(3.0f + z"),
        ("lanes.h", "4.83751297e-4f", "4.83751297e-2f"),
        ("perceptron.cpp", "now_t[i] * tape.curves", "now[i] * tape.curves"),
    ],
)
def test_a_library_that_errs_is_not_used(source, monkeypatch, file, right, wrong):
    """A compiler that makes something else of it."""
    for name in ("layers.h", "lanes.h"):
        shutil.copy(perceptron_library.SOURCE.with_name(name), source.parent)
    shutil.copy(perceptron_library.SOURCE, source.with_name("perceptron.cpp"))
    changed = source.with_name(file)
    text = changed.read_text()
    assert right in text
    changed.write_text(text.replace(right, wrong))
    monkeypatch.setattr(perceptron_library, "SOURCE", source.with_name("perceptron.cpp"))
    perceptron.agrees.cache_clear()
    assert not perceptron.agrees()
    changed.write_text(text)
    native.library.cache_clear()
    perceptron.agrees.cache_clear()
    assert perceptron.agrees()
