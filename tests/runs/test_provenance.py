"""The commit in run.json: read from the files of the repository, of which none is executed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ebmtrain.runs.provenance import _git_state

CONFIGURATIONS = {
    "fsmonitor": '[core]\nfsmonitor = "touch executed"\n',
    "hooks": "[core]\nhooksPath = hooks\n",
    "textconv": '[diff "x"]\ntextconv = "touch executed"\n',
    "external diff": '[diff "x"]\ncommand = "touch executed"\n'
    '[diff]\nexternal = "touch executed"\n',
    "filter": '[filter "x"]\nclean = "touch executed"\nprocess = "touch executed"\n',
    "pager and editor": '[core]\npager = "touch executed"\neditor = "touch executed"\n',
    "alias": '[alias]\nstatus = "!touch executed"\nrev-parse = "!touch executed"\n',
    "ssh": '[core]\nsshCommand = "touch executed"\ngitProxy = "touch executed"\n',
    "include": "[include]\npath = ../evil\n",
    "broken": "[",
}


def git(*words: str) -> str:
    names = {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    calm = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **names, **calm},
    )
    return done.stdout.strip()


@pytest.fixture
def commit(folder: Path) -> str:
    """Of a repository in the current directory, on the branch topic/one."""
    git("init", "-q")
    git("checkout", "-q", "-b", "topic/one")
    (folder / ".gitattributes").write_text("* diff=x filter=x\n")
    (folder / "file").write_text("one")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def no_process(monkeypatch, folder: Path):
    """Fails if the state is found by a process, or a program of the repository has run."""
    run = subprocess.Popen.__init__

    def watch(self, arguments, *more, **named):
        assert arguments[0] == "git", arguments
        assert not reading, arguments
        run(self, arguments, *more, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", watch)
    yield
    assert not (folder / "executed").exists()


reading = False


def state():
    global reading
    reading = True
    try:
        return _git_state()
    finally:
        reading = False


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_that_the_repository_names_is_executed(commit, folder: Path, name):
    (folder / "file").write_text("two")
    (folder / "evil").write_text(CONFIGURATIONS["fsmonitor"])
    (folder / "hooks").mkdir()
    (folder / "hooks/post-index-change").write_text("#!/bin/sh\ntouch executed\n")
    (folder / "hooks/post-index-change").chmod(0o755)
    with (folder / ".git/config").open("a") as file:
        file.write(CONFIGURATIONS[name])
    assert state() == {"commit": commit, "dirty": None}


def test_from_a_subfolder(commit, folder: Path, monkeypatch):
    (folder / "a/b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a/b")
    assert state() == {"commit": commit, "dirty": None}


def test_a_detached_head(commit):
    git("checkout", "-q", "--detach")
    assert state() == {"commit": commit, "dirty": None}


def test_packed_branches(commit, folder: Path):
    git("tag", "-a", "-m", "x", "v1")
    git("branch", "topic/two")
    git("pack-refs", "--all")
    assert not (folder / ".git/refs/heads/topic/one").exists()
    assert state() == {"commit": commit, "dirty": None}


def test_a_worktree(commit, folder: Path, monkeypatch):
    git("worktree", "add", "-q", "-b", "other", "tree")
    monkeypatch.chdir(folder / "tree")
    assert (folder / "tree/.git").is_file()
    (folder / "tree/more").write_text("")
    git("add", "more")
    git("commit", "-q", "-m", "two")
    new = git("rev-parse", "HEAD")
    assert new != commit
    assert state() == {"commit": new, "dirty": None}
    git("pack-refs", "--all")
    assert state() == {"commit": new, "dirty": None}


def test_no_repository_and_none_with_a_commit(folder: Path):
    assert state() is None
    git("init", "-q")
    assert state() is None


@pytest.mark.parametrize(
    "head",
    ["", "x", "ref: refs/heads/../../config", "ref: ../secret", "ref: /etc/hostname", "\x1b[2J",
     "ref: refs/heads/none", "ref: HEAD", "0" * 41, "\xff", "ref: refs/heads/\x00", "0" * 5000],
)  # fmt: skip
def test_a_head_that_is_none(commit, folder: Path, head):
    (folder / ".git/secret").write_text("0" * 40)
    (folder / ".git/HEAD").write_bytes(head.encode("latin-1"))
    assert state() is None


def test_pipes_and_directories_in_place_of_files(commit, folder: Path):
    (folder / ".git/HEAD").unlink()
    os.mkfifo(folder / ".git/HEAD")
    assert state() is None
    (folder / ".git").rename("moved")
    os.mkfifo(folder / ".git")
    assert state() is None
    (folder / ".git").unlink()
    (folder / ".git").write_text("gitdir: nowhere")
    assert state() is None


def test_the_current_folder_is_deleted(folder: Path, monkeypatch):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert state() is None
