"""Batch norm with what follows it: on a CPU torch's operators one by one, in Triton's interpreter the fused kernels."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from muybridge.kernels import batch_norm
from muybridge.kernels.batch_norm import apply_layers, apply_norm, find_fusion_problem
from norm_checks import NETWORK_CASES, NETWORK_TOLERANCE, TOLERANCES, family_channels

TESTS = Path(__file__).parents[1]


def maps_of(channels: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, channels, 3, 5, 4).contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("with_residual", [True, False])
def test_on_a_cpu_it_is_torchs_operators_to_the_last_bit(training: bool, relu: bool, with_residual: bool) -> None:
    maps, residual = maps_of(6), maps_of(6).flip(0) if with_residual else None
    ours, theirs = nn.BatchNorm3d(6).train(training), nn.BatchNorm3d(6).train(training)
    expected = theirs(maps)
    expected = expected if residual is None else expected + residual
    expected = functional.relu(expected) if relu else expected
    assert torch.equal(apply_norm(ours, maps.clone(), relu=relu, residual=residual), expected)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.running_mean, theirs.running_mean)


def test_layers_after_batch_norm_run_in_their_order() -> None:
    maps, norm, pool = maps_of(6), nn.BatchNorm3d(6).eval(), nn.MaxPool3d(2)
    expected = pool(functional.relu(norm(maps)))
    assert torch.equal(apply_layers([norm, nn.ReLU(inplace=True), pool], maps.clone()), expected)
    assert torch.equal(apply_layers([norm], maps.clone()), norm(maps))


def test_padded_channels_stay_zero_and_leave_the_statistics_alone() -> None:
    norm, plain = nn.BatchNorm3d(6), nn.BatchNorm3d(6)
    maps = maps_of(6)
    out = apply_norm(norm, functional.pad(maps, (0, 0) * 3 + (0, 2)), relu=True, extra_channels=2)
    torch.testing.assert_close(out[:, :6], functional.relu(plain(maps)))
    assert not out[:, 6:].any()
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_a_cpu_is_told_what_fusion_needs() -> None:
    assert find_fusion_problem(torch.device("cpu")) == "fused batch norm needs a CUDA device"


def test_an_absent_or_broken_triton_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    monkeypatch.setattr(batch_norm, "FUSED_DEVICE_TYPES", {"cpu"})

    def refuse(name: str) -> None:
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(batch_norm.importlib, "import_module", refuse)
    assert "Triton cannot be imported" in str(find_fusion_problem.__wrapped__(device))

    monkeypatch.setattr(batch_norm.importlib, "import_module", lambda name: object())
    assert "Triton's kernels do not run here (AttributeError" in str(find_fusion_problem.__wrapped__(device))

    monkeypatch.setattr(batch_norm, "_measure_fused_error", lambda kernels, device: float("nan"))
    assert "differ by nan" in str(find_fusion_problem.__wrapped__(device))


class StandIn:
    """What `triton_norm` offers, by torch's operators, for maps as the kernels take them."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.calls = scale, 0
        self.checked: list[tuple[torch.Tensor, ...]] = []
        self.NormAddRelu = self

    def RunningStatistics(self, mean: torch.Tensor, variance: torch.Tensor, momentum: float | None) -> Any:
        return mean, variance, momentum

    def apply(
        self, maps: Any, residual: Any, weight: Any, bias: Any, running: Any, epsilon: float, relu: bool, is_batch: bool
    ) -> torch.Tensor:
        for tensor in (maps, residual):
            assert tensor is None or tensor.is_contiguous(memory_format=torch.channels_last_3d)
        mean, variance, momentum = running or (None, None, None)
        assert len(weight) == len(bias) <= maps.shape[1]
        self.calls += 1
        self.checked.append(
            tuple(tensor.detach().clone() for tensor in (maps, residual, weight, bias) if tensor is not None)
        )
        if is_batch and momentum is None:
            mean = variance = None
        own, others = maps[:, : len(weight)], maps[:, len(weight) :]
        out = functional.batch_norm(own, mean, variance, weight * self.scale, bias, is_batch, momentum or 0.0, epsilon)
        out = torch.cat([out, others], 1)
        out = out if residual is None else out + residual
        return functional.relu(out) if relu else out


@pytest.fixture
def use_stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StandIn]]:
    """On the CPU, `use_stand_in()` stands for the kernels."""

    def use(scale: float = 1.0) -> StandIn:
        stand_in = StandIn(scale)
        monkeypatch.setattr(batch_norm, "FUSED_DEVICE_TYPES", {"cpu"})
        monkeypatch.setattr(batch_norm.importlib, "import_module", lambda name: stand_in)
        find_fusion_problem.cache_clear()
        return stand_in

    yield use
    find_fusion_problem.cache_clear()


def test_kernels_are_checked_with_numbers_that_tell(use_stand_in: Callable[..., StandIn]) -> None:
    stand_in = use_stand_in()
    for _ in range(2):
        assert find_fusion_problem.__wrapped__(torch.device("cpu")) is None
    once, again = stand_in.checked[:2], stand_in.checked[2:]
    assert [len(tensors[0][0]) for tensors in once] == [12, 64]  # channels that do not divide a block, and some that do
    for tensors, same in zip(once, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors, same, strict=True))  # the same numbers in every process
        maps, *residual, weight, bias = tensors
        assert all((tensor < 0).any() and (tensor > 0).any() for tensor in (maps, *residual, bias))
        assert weight.unique().numel() == len(weight)
    for scale in (1.01, -1.0, float("nan")):
        use_stand_in(scale)
        assert "differ by" in str(find_fusion_problem(torch.device("cpu")))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize("extra_channels", [0, 2])
def test_fused_it_is_torchs_operators_up_to_rounding(
    use_stand_in: Callable[..., StandIn],
    training: bool,
    relu: bool,
    with_residual: bool,
    tracks: bool,
    extra_channels: int,
) -> None:
    maps = maps_of(6).contiguous()  # as a convolution that leaves channels-last memory
    residual = maps.flip(0) if with_residual else None
    ours, theirs = (nn.BatchNorm3d(6, track_running_stats=tracks).train(training) for _ in range(2))
    for norm in (ours, theirs):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
        if tracks:
            norm.running_mean.fill_(0.3)
            norm.running_var.fill_(2.0)
    expected = theirs(maps) if residual is None else theirs(maps) + residual
    expected = functional.relu(expected) if relu else expected
    padding = (0, 0) * 3 + (0, extra_channels)
    padded = None if residual is None else functional.pad(residual, padding)
    stand_in = use_stand_in()
    out = apply_norm(ours, functional.pad(maps, padding), relu=relu, residual=padded, extra_channels=extra_channels)
    assert stand_in.calls == 3  # two of them check the kernels
    torch.testing.assert_close(out[:, :6], expected)
    assert not out[:, 6:].any()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, msg=name)


def test_what_the_kernels_cannot_do_is_left_to_torch(
    use_stand_in: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in, maps = use_stand_in(), maps_of(6)
    assert find_fusion_problem(torch.device("cpu")) is None
    hooked = nn.BatchNorm3d(6)
    hooked.register_forward_hook(lambda *_: None)
    cases: list[tuple[nn.BatchNorm3d, torch.Tensor, torch.Tensor | None]] = [
        (hooked, maps, None),
        (nn.BatchNorm3d(6, momentum=None), maps, None),
        (nn.BatchNorm3d(6, affine=False), maps, None),
        (nn.BatchNorm3d(6).double(), maps.double(), None),
        (nn.BatchNorm3d(6), maps, maps[:1]),
        (nn.BatchNorm3d(6), maps, maps.double()),
        (nn.BatchNorm3d(6).eval(), maps[:0], None),
    ]
    for norm, given, residual in cases:
        apply_norm(norm, given.clone(), relu=True, residual=residual)
    with pytest.raises(ValueError, match="more than 1 value"):
        apply_norm(nn.BatchNorm3d(6), maps[:1, :, :1, :1, :1], relu=True)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    apply_norm(nn.BatchNorm3d(6), maps.clone(), relu=True)
    assert stand_in.calls == 2
    monkeypatch.undo()
    stand_in = use_stand_in()
    apply_norm(nn.BatchNorm3d(6), maps.clone(), relu=True, residual=maps.clone())
    assert stand_in.calls == 3


needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install 'muybridge[triton]'"
)


def run_checks(*arguments: str) -> list[dict[str, Any]]:
    """The lines of `norm_checks.py`, which runs the kernels in Triton's interpreter, in a process of its own."""
    command = [sys.executable, str(TESTS / "norm_checks.py"), *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    return [json.loads(line) for line in printed.splitlines()]


@needs_triton
@pytest.mark.long
def test_every_batch_norm_of_the_family_is_that_of_float64_also_for_views() -> None:
    results = run_checks("family")
    assert [result["channels"] for result in results] == family_channels()
    assert {45, 48, 230, 921, 2048} < set(family_channels())
    assert max(result["error"] for result in results) < TOLERANCES["float32"]


@needs_triton
@pytest.mark.long
def test_networks_with_fused_kernels_train_as_in_float64() -> None:
    """Padding, frozen stages, activation checkpointing, gradient accumulation, bottlenecks, evaluation mode."""
    results = run_checks("network")
    assert [result["case"] for result in results] == list(NETWORK_CASES)
    for result in results:
        assert result["worst"] < NETWORK_TOLERANCE, result
        runs = 2 if result["case"] in ("checkpointing", "accumulation") else 1
        assert result["calls"] == runs, f"not every norm was fused: {result}"
