"""Precision on a device: which is chosen, and what is recorded of it."""

import pytest
import torch

from muybridge.kernels import precision
from muybridge.kernels.precision import (
    choose_inference_precision,
    describe_execution,
    exact_float32,
    find_bf16_problem,
    list_cudnn_warnings,
    set_tf32,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("version", "bad"), [(None, False), (90100, False), (90800, True), (91002, True), (91300, True), (91500, False)]
)
def test_known_bad_versions_of_cudnn(version, bad):
    warnings = list_cudnn_warnings(version)
    assert bool(warnings) == bad
    if version == 91002:
        assert "cuDNN 9.10 " in warnings[0]


def pretend_gpu(monkeypatch, *, bf16=True, cudnn=91900):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: bf16)
    monkeypatch.setattr(precision, "get_cudnn_version", lambda: cudnn)
    monkeypatch.setattr(precision, "get_device_name", lambda device: "a GPU")


def test_inference_takes_bf16_on_gpus_that_have_it(monkeypatch):
    pretend_gpu(monkeypatch)
    assert choose_inference_precision("auto", CUDA) == "bf16"
    assert choose_inference_precision("fp32", CUDA) == "fp32"
    assert choose_inference_precision("auto", CPU) == "fp32"


def test_the_environment_decides_where_nothing_was_asked_for(monkeypatch):
    pretend_gpu(monkeypatch)
    monkeypatch.setenv(precision.PRECISION_VARIABLE, "fp32")
    assert choose_inference_precision("auto", CUDA) == "fp32"
    assert choose_inference_precision("bf16", CUDA) == "bf16"
    monkeypatch.setenv(precision.PRECISION_VARIABLE, "half")
    with pytest.raises(ValueError, match="MUYBRIDGE_PRECISION is 'half', expected auto, fp32 or bf16"):
        choose_inference_precision("auto", CUDA)


@pytest.mark.parametrize(
    ("gpu", "reason"), [({"bf16": False}, "no bf16 instructions"), ({"cudnn": 91000}, "9.15 is the first")]
)
def test_auto_is_fp32_where_bf16_is_slow_or_wrong(monkeypatch, gpu, reason):
    pretend_gpu(monkeypatch, **gpu)
    assert reason in find_bf16_problem(CUDA)
    assert choose_inference_precision("auto", CUDA) == "fp32"


def test_bf16_without_instructions_is_refused(monkeypatch):
    pretend_gpu(monkeypatch, bf16=False)
    with pytest.raises(ValueError, match="bf16 has no fast path on a GPU"):
        choose_inference_precision("bf16", CUDA)


def test_exact_float32_restores_what_was_set():
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    try:
        set_tf32(True)
        with exact_float32(CUDA):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        with exact_float32(CPU):
            assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


def test_a_record_names_device_and_versions():
    record = describe_execution(CPU, "fp32", tf32=True)
    assert (record["precision"], record["tf32"], record["cudnn"]) == ("fp32", False, None)
    assert record["torch"] == torch.__version__
