"""Settings of the process by `device`. Each test changes them in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Child

from ebmtrain.runtime.devices import Device


def run_in_child(work: Callable[[], None], folder: Path) -> None:
    """Calls `work` in a child process. Fails with the child's traceback if it raises."""

    def code() -> int:
        work()
        return 0

    ended = Child(code, folder).ended()
    assert ended.code == 0, ended.err


def test_tf32_is_off_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    backends = torch.backends

    def precisions() -> list[str]:
        return [backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision]

    def work() -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = True
        assert precisions() == ["tf32", "tf32"]
        Device(accelerator="cpu").set_up_process()
        assert precisions() == ["tf32", "tf32"]
        device = Device(accelerator="auto")
        device.set_up_process()
        assert device.select()[0] == torch.device("cuda")
        assert "tf32" not in precisions()
        assert not backends.cudnn.allow_tf32
        assert not backends.cuda.matmul.allow_tf32

    run_in_child(work, tmp_path)


def test_more_threads_than_cores_give_a_warning(caplog, tmp_path: Path):
    cores = os.cpu_count()
    assert cores is not None

    def work() -> None:
        with caplog.at_level("WARNING", "ebmtrain"):
            Device(threads=cores).set_up_process()
            assert not caplog.records
            Device(threads=cores + 1).set_up_process()
        assert f"device.threads is {cores + 1}, and there are {cores} cores" in caplog.text

    run_in_child(work, tmp_path)
