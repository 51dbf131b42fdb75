"""Settings of the process by `device`."""

from __future__ import annotations

import os

import torch

from ebmtrain.runtime.devices import Device


def test_tf32_is_off_on_a_gpu(monkeypatch):
    backends = torch.backends
    flags = [(backends.cudnn, "allow_tf32"), (backends.cuda.matmul, "allow_tf32")]
    before = [getattr(*flag) for flag in flags]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        for flag in flags:
            setattr(*flag, True)
        Device(accelerator="cpu").set_up_process()
        assert [getattr(*flag) for flag in flags] == [True, True]
        device = Device(accelerator="auto")
        device.set_up_process()
        assert device.select()[0] == torch.device("cuda")
        assert [getattr(*flag) for flag in flags] == [False, False]
        assert backends.cudnn.conv.fp32_precision != "tf32"
    finally:
        for flag, value in zip(flags, before, strict=True):
            setattr(*flag, value)


def test_more_threads_than_cores_give_a_warning(caplog):
    cores, before = os.cpu_count(), torch.get_num_threads()
    assert cores is not None
    try:
        with caplog.at_level("WARNING", "ebmtrain"):
            Device(threads=cores).set_up_process()
            assert not caplog.records
            Device(threads=cores + 1).set_up_process()
        assert f"device.threads is {cores + 1}, and there are {cores} cores" in caplog.text
    finally:
        torch.set_num_threads(before)
