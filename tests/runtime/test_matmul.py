"""Products of float32 are fast where they can be, and exact everywhere."""

from __future__ import annotations

import os

import pytest
import torch

from ebmtrain.runtime import matmul as products
from ebmtrain.runtime.devices import Device

AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16\n"
INTEL = AMD.replace("AuthenticAMD", "GenuineIntel")


@pytest.fixture(autouse=True)
def as_it_was():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    yield
    matmul.fp32_precision = before


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (AMD, True),
        (AMD + AMD.replace("AuthenticAMD", "GenuineIntel"), True),  # the first of them speaks
        (INTEL, False),
        (AMD.replace(" avx512f avx512_bf16", ""), False),
        (AMD.replace("avx2", "avx2 amx_tile amx_bf16"), False),
        ("", False),
        ("Features : asimd\nCPU implementer : 0x41\n", False),
    ],
)
def test_which_library(cpuinfo, expected):
    assert products.onednn_is_faster(cpuinfo) is expected


@pytest.mark.parametrize("rows", [16, 64, 100, 256, 1024])
@pytest.mark.parametrize("inner", [2, 64, 130, 512])
def test_products_are_those_of_float32(rows, inner):
    """Errors of some units of the last place: bfloat16 would be 2^16 times as far."""
    Device().set_up_process(256)
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(rows, inner, generator=draw)
    b = torch.randn(inner, 128, generator=draw)
    bound = 4 * inner**0.5 * 2.0**-23 * (a.double().abs() @ b.double().abs())
    for c in (a @ b, torch.addmm(torch.zeros(128), a, b), torch.bmm(a[None], b[None])[0]):
        assert ((c.double() - a.double() @ b.double()).abs() <= bound).all()


def test_what_rounds_is_not_used(monkeypatch, tmp_path):
    """A processor that says it is fit, and is not."""
    monkeypatch.setattr(products, "CPUINFO", tmp_path / "cpuinfo")
    products.CPUINFO.write_text(AMD)
    monkeypatch.setattr(products, "exact", lambda: False)
    products.choose_library(256)
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


@pytest.mark.parametrize(("rows", "kind"), [(255, "ieee"), (256, "bf16")])
def test_few_rows_are_left_to_mkl(monkeypatch, tmp_path, rows, kind):
    monkeypatch.setattr(products, "CPUINFO", tmp_path / "cpuinfo")
    products.CPUINFO.write_text(AMD)
    monkeypatch.setattr(products, "exact", lambda: True)
    products.choose_library(1024)
    products.choose_library(rows)  # of a sweep's next job, in the same process
    assert torch.backends.mkldnn.matmul.fp32_precision == kind


def test_a_product_of_rounded_factors_is_told_from_an_exact_one():
    assert products.exact()
    assert not products.exact(lambda a, b: (a.bfloat16() @ b.bfloat16()).float())


def test_on_a_gpu_nothing_is_rounded_to_tf32(monkeypatch):
    backends = torch.backends
    flags = [(backends.cudnn, "allow_tf32"), (backends.cuda.matmul, "allow_tf32")]
    before = [getattr(*flag) for flag in flags]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        for flag in flags:
            setattr(*flag, True)
        Device(accelerator="cpu").set_up_process(256)
        assert [getattr(*flag) for flag in flags] == [True, True]
        device = Device(accelerator="auto")
        device.set_up_process(256)
        assert device.select()[0] == torch.device("cuda")
        assert [getattr(*flag) for flag in flags] == [False, False]
        assert backends.cudnn.conv.fp32_precision != "tf32"
    finally:
        for flag, value in zip(flags, before, strict=True):
            setattr(*flag, value)


def test_more_threads_than_cores_are_told(caplog):
    cores, before = os.cpu_count(), torch.get_num_threads()
    assert cores is not None
    try:
        with caplog.at_level("WARNING", "ebmtrain"):
            Device(threads=cores).set_up_process(1)
            assert not caplog.records
            Device(threads=cores + 1).set_up_process(1)
        assert f"device.threads is {cores + 1}, and there are {cores} cores" in caplog.text
    finally:
        torch.set_num_threads(before)
