"""The choice of a run's precision, and the check of bf16 against fp32."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from muybridge.distributed.process_group import ProcessGroup
from muybridge.kernels.convolution import Convolution3d
from muybridge.kernels.precision import has_fast_bf16
from muybridge.models.network import create_model
from muybridge.settings import ClipSettings, NetworkSettings, TrainSettings
from muybridge.training import precision
from muybridge.training.job import prepare_job
from muybridge.training.precision import (
    check_precision,
    compare_bf16_to_fp32,
    list_bf16_warnings,
    resolve_precision,
)
from muybridge.training_settings import TrainingSettings
from runs import save_job, tiny_run

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return create_model("r2plus1d_10", width=4, num_classes=3, clip_length=4)


def settings(**training):
    return TrainSettings(
        data="nowhere",
        network=NetworkSettings(width=4),
        clips=ClipSettings(length=4, crop=32),
        training=TrainingSettings(**training),
    )


@pytest.mark.parametrize(
    ("found", "fast"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False), ({}, False)]
)
def test_bf16_needs_instructions_for_it(monkeypatch, found, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert has_fast_bf16(CPU) == fast
    check_precision(TrainingSettings(), CPU)
    if fast:
        check_precision(TrainingSettings(precision="bf16"), CPU)
    else:
        with pytest.raises(ValueError, match="bf16 has no fast path on this processor"):
            check_precision(TrainingSettings(precision="bf16"), CPU)


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_products_in_tf32_are_said_of_fp32_alone(monkeypatch, chosen):
    monkeypatch.setattr(precision, "_choose_precision", lambda *_: (chosen, "so it was measured"))
    resolved, (sentence,) = resolve_precision(
        settings(precision="auto"), network(), torch.device("cuda"), ProcessGroup()
    )
    assert (resolved.training.precision, resolved.training.tf32) == (chosen, True)
    assert sentence.startswith(f"training in {chosen}")
    assert ("TF32" in sentence) == (chosen == "fp32")


def test_bf16_is_compared_with_fp32_without_touching_the_network():
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert 0.9 < compare_bf16_to_fp32(net, torch.randn(4, 3, 4, 48, 48)) < 1
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_wrong_bf16_kernel_is_noticed(monkeypatch):
    net = network()
    forward = Convolution3d.forward

    def wrong(module, clips):
        maps = forward(module, clips)
        return maps.flip(1) if torch.is_autocast_enabled("cpu") and module.out_channels == 8 else maps

    monkeypatch.setattr(Convolution3d, "forward", wrong)
    (warning,) = list_bf16_warnings(compare_bf16_to_fp32(net, torch.randn(4, 3, 4, 48, 48)))
    assert "have a cosine of" in warning


@pytest.mark.parametrize(
    ("cosine", "cudnn", "words"),
    [
        (0.95, 91600, []),
        (0.95, None, []),
        (0.5, 91600, ["have a cosine of 0.50"]),
        (float("nan"), 91600, ["have a cosine of nan"]),
        (0.95, 91002, ["cuDNN 9.10 is known"]),
    ],
)
def test_what_a_check_says(monkeypatch, cosine, cudnn, words):
    """Nothing of speed: on a GPU launches decide how long a step with two clips takes, in either precision."""
    monkeypatch.setattr(precision, "get_cudnn_version", lambda: cudnn)
    monkeypatch.setattr(precision, "_check_bf16", lambda *_: cosine)
    _, warnings = resolve_precision(settings(precision="bf16"), network(), torch.device("cuda"), ProcessGroup())
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


def resolve(monkeypatch, cosine, problem=None, **training):
    monkeypatch.setattr(precision, "find_bf16_problem", lambda device: problem)
    monkeypatch.setattr(precision, "compare_bf16_to_fp32", lambda net, clips: cosine)
    return resolve_precision(settings(**training), network(), CPU, ProcessGroup())


def test_auto_is_bf16_where_a_step_agrees(monkeypatch):
    resolved, (note,) = resolve(monkeypatch, 0.97)
    assert resolved.training.precision == "bf16"
    assert note.startswith("training in bf16: ") and "cosine 0.970" in note


@pytest.mark.parametrize("cosine", [0.5, float("nan")])
def test_auto_is_fp32_where_a_step_disagrees(monkeypatch, cosine):
    resolved, (note,) = resolve(monkeypatch, cosine)
    assert resolved.training.precision == "fp32"
    assert f"a cosine of only {cosine:.2f}" in note


def test_auto_is_fp32_on_a_cpu_and_says_why():
    resolved, notes = resolve_precision(settings(), network(), CPU, ProcessGroup())
    assert (resolved.training.precision, resolved.training.tf32) == ("fp32", True)
    assert notes == ["training in fp32: on a CPU bf16 is used only on request"]


def test_a_precision_that_was_asked_for_stays(monkeypatch):
    resolved, notes = resolve(monkeypatch, 0.97, precision="fp32", tf32=False)
    assert (resolved.training.precision, resolved.training.tf32, notes) == ("fp32", False, [])


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_products_are_never_silent(monkeypatch, tf32):
    monkeypatch.setattr(precision, "find_bf16_problem", lambda device: "no bf16")
    monkeypatch.setattr(precision, "get_device_name", lambda device: "a GPU")
    gpu = torch.device("cuda")
    for asked in ("fp32", "auto"):
        _, notes = resolve_precision(settings(precision=asked, tf32=tf32), network(), gpu, ProcessGroup())
        assert ["TF32 products (training.tf32 false" in note for note in notes] == [tf32] * (tf32 or asked == "auto")


def test_a_run_keeps_the_precision_it_started_with(motions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    save_job(prepare_job(tiny_run(motions, folder)))
    saved = yaml.safe_load((folder / "settings.yaml").read_text())
    assert (saved["training"]["precision"], saved["training"]["tf32"]) == ("fp32", True)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["execution"]["precision"] == "fp32"
    assert environment["execution"]["torch"] == torch.__version__
    assert environment["execution"]["fused_batch_norm"] is False

    # A run of an older version knew neither of the three settings: fp32 without TF32.
    for name in ("precision", "tf32", "deterministic"):
        del saved["training"][name]
    saved["training"]["precision"] = "fp32"
    (folder / "settings.yaml").write_text(yaml.safe_dump(saved))
    resumed = prepare_job(tiny_run(motions, folder), resume=True)
    assert (resumed.settings.training.precision, resumed.settings.training.tf32) == ("fp32", False)
    with pytest.raises(ValueError, match=r"training\.tf32 is True, the run has False"):
        prepare_job(tiny_run(motions, folder, {"training.tf32": True}), resume=True)


def test_a_run_on_another_machine_is_told_that_its_bits_differ(motions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    save_job(prepare_job(tiny_run(motions, folder)))
    assert not any("rounding only" in note for note in prepare_job(tiny_run(motions, folder), resume=True).notes)
    environment = json.loads((folder / "environment.json").read_text())
    environment["execution"]["device"] = "an abacus"
    (folder / "environment.json").write_text(json.dumps(environment))
    (note,) = (note for note in prepare_job(tiny_run(motions, folder), resume=True).notes if "rounding only" in note)
    assert "before an abacus" in note
