"""Fingerprints: what changes them, and what does not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from muybridge.studies.fingerprint import (
    LOW_PRECISION_FEATURES,
    MICRO_MOTIONS,
    Version,
    describe_environment,
    execute_micro_run,
    identify,
    list_micro_runs,
    plan_micro_run,
)
from muybridge.studies.laptop import build_laptop_settings
from muybridge.studies.plan import DataSource, EvaluationSpec, FusedRun, PlannedRun, with_seeds
from muybridge.synthetic.dataset import write_motion_dataset

RUN = PlannedRun(build_laptop_settings("r2plus1d_10", 8), DataSource("d", "/d"), (EvaluationSpec(5, 8),))
SETTINGS = plan_micro_run(RUN).settings


def test_runs_of_one_network_share_a_micro_run_however_their_data_are_read() -> None:
    other = replace(
        RUN.settings, seed=3, fold=1, num_folds=5, columns="path=a,label=b", source_fps=10.0, init="w.safetensors"
    )
    assert plan_micro_run(replace(RUN, settings=other)) == plan_micro_run(RUN)


@pytest.fixture(scope="module")
def micro_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("micro") / "data"
    write_motion_dataset(folder, MICRO_MOTIONS)
    return folder


def test_a_micro_run_repeats_to_the_bit_and_a_changed_kernel_changes_it(
    micro_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = execute_micro_run(SETTINGS, micro_data, tmp_path / "a")
    assert first == execute_micro_run(SETTINGS, micro_data, tmp_path / "b")
    assert first.startswith("fp32 ")
    plain = replace(SETTINGS, training=replace(SETTINGS.training, channels_last=False))
    assert execute_micro_run(plain, micro_data, tmp_path / "c") != first
    original = torch.optim.AdamW.step

    def step_otherwise(self: torch.optim.AdamW, *args: object) -> object:
        result = original(self, *args)  # type: ignore[arg-type]
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, torch.inf)))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step_otherwise)
    assert execute_micro_run(SETTINGS, micro_data, tmp_path / "d") != first


def test_seeds_and_reruns_share_a_micro_run_and_networks_do_not() -> None:
    rerun = replace(RUN, settings=replace(RUN.settings, training=replace(RUN.settings.training, rounding_seed=3)))
    longer = replace(RUN, settings=build_laptop_settings("r2plus1d_10", 16))
    other = replace(RUN, settings=build_laptop_settings("r3d_10", 8))
    assert len(list_micro_runs([*with_seeds(RUN, 3), rerun])) == 1
    assert len(list_micro_runs([RUN, longer, other])) == 3
    tuned = replace(other, start=RUN)
    assert len(list_micro_runs([tuned])) == 2  # of what it starts from, too
    assert (
        list_micro_runs([FusedRun((RUN, other), EvaluationSpec(5, 8))]).keys() == list_micro_runs([RUN, other]).keys()
    )


def test_a_row_is_of_a_version_if_its_machine_and_all_its_micro_runs_are() -> None:
    names = list_micro_runs([RUN])
    version = Version({"device": "cpu", "threads": 1}, dict.fromkeys(names, "fp32 01"))
    fingerprint = version.get_fingerprint(RUN)
    assert version.matches(fingerprint)
    assert not version.matches(None)
    assert not version.matches({**fingerprint, "environment": {"device": "cpu", "threads": 2}})
    assert not replace(version, micro_runs=dict.fromkeys(names, "fp32 02")).matches(fingerprint)
    assert not version.matches({**fingerprint, "micro_runs": {}})


def test_features_that_float32_does_not_use_make_no_other_kind_of_machine() -> None:
    (name,) = list_micro_runs([RUN])
    full = {"device": "cpu", "threads": 1, "features": ["amx_tile", "avx2", "avx512_bf16", "avx512_f", "avx512_fp16"]}
    hidden, older = {**full, "features": ["avx2", "avx512_f"]}, {**full, "features": ["avx2"]}
    for precision, is_equal in (("fp32", True), ("bf16", False)):
        version = Version(full, {name: f"{precision} 01"})
        other = {"environment": hidden, "micro_runs": {name: f"{precision} 01"}}
        assert version.matches(other) is is_equal
        assert (identify(version.get_fingerprint(RUN)) == identify(other)) is is_equal
        assert not version.matches({**other, "environment": older})
        assert not version.matches({**other, "micro_runs": {name: f"{precision} 02"}})


@pytest.mark.skipif("avx10_1" not in torch.cpu.get_capabilities(), reason="torch names other features here")
def test_low_precision_features_are_named_as_torch_names_them() -> None:
    assert set(LOW_PRECISION_FEATURES) <= set(torch.cpu.get_capabilities())


def test_the_environment_names_what_decides_bits() -> None:
    found = describe_environment("cpu", 3)
    assert found["threads"] == 3 and found["torch"] == torch.__version__ and found["device"] == "cpu"
    capabilities = torch.cpu.get_capabilities()
    assert found["features"] == sorted(name for name in capabilities if capabilities[name] is True)
