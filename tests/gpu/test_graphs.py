"""CUDA graphs: training and inference with and without them, and what is left after a failed capture."""

from typing import Any

import pytest
import torch
from torch import nn

from graph_stand_in import RerunFunction
from muybridge.inference.folded import optimize
from muybridge.kernels.graphs import NUM_EAGER_CALLS, GraphedNetwork
from muybridge.models.network import create_model

pytestmark = pytest.mark.gpu
CASES = ("one size", "accumulation", "frozen", "a batch of another size", "dropout", "bottleneck")


def network_of(case: str, device: torch.device) -> Any:
    torch.manual_seed(0)
    name = "r2plus1d_50" if case == "bottleneck" else "r2plus1d_10"
    net = create_model(name, width=16, num_classes=5, clip_length=8).to(device).train()
    net.dropout = 0.5 if case == "dropout" else 0.0
    if case == "frozen":
        net.stem.requires_grad_(False).eval()
    return net


def sizes_of(case: str, step: int) -> tuple[int, ...]:
    if case == "a batch of another size" and step in (5, 7):
        return (3,)
    return (4, 4, 3) if case == "accumulation" else (4,)


def learn(case: str, net: nn.Module, model: Any, device: torch.device, *, bf16: bool) -> list[float]:
    """Ten steps, as training makes them; the losses."""
    optimizer = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], lr=0.01, momentum=0.9)
    draw, losses = torch.Generator().manual_seed(1), []
    for step in range(10):
        optimizer.zero_grad(set_to_none=True)
        for size in sizes_of(case, step):
            clips = torch.randn(size, 3, 8, 32, 32, generator=draw).to(device)
            torch.manual_seed(step)
            losses.append(one_pass(model, clips, bf16=bf16))
        optimizer.step()
    return losses


def one_pass(model: Any, clips: torch.Tensor, *, bf16: bool) -> float:
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=bf16):
        logits = model(clips)
    loss = nn.functional.cross_entropy(logits.float(), torch.arange(len(clips), device=clips.device) % 5)
    loss.backward()
    return loss.item()


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_training_is_the_same_to_the_last_bit(
    case: str, bf16: bool, device: torch.device, stand_in: type[RerunFunction] | None
) -> None:
    plain, graphed, reports = network_of(case, device), network_of(case, device), []
    model = GraphedNetwork(graphed, reports.append)
    expected = learn(case, plain, plain, device, bf16=bf16)
    actual = learn(case, graphed, model, device, bf16=bf16)
    assert "run as CUDA graphs" in reports[0], reports
    assert stand_in is not None or model.num_bytes > 0
    assert actual == expected
    for name, value in plain.state_dict().items():
        assert torch.equal(graphed.state_dict()[name], value), name


class Waiting(nn.Module):
    """A network that reads a number in its forward pass, which no graph can hold."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(clips)
        assert logits.detach().isfinite().all().item()
        return logits


def test_after_a_failed_capture_everything_goes_on(device: torch.device, stand_in: type[RerunFunction] | None) -> None:
    if stand_in is not None:
        stand_in.error = RuntimeError("stands for an operation that is not permitted")
    net, reports = network_of("one size", device), []
    waiting = GraphedNetwork(Waiting(net).train(), reports.append)
    losses = learn("one size", net, waiting, device, bf16=False)
    (report,) = reports
    assert "training runs without CUDA graphs" in report and "permitted" in report
    assert losses[-1] == losses[-1]
    if stand_in is not None:
        stand_in.error = None
    else:
        assert torch.cuda.current_stream(device) == torch.cuda.default_stream(device)
        assert_used_memory_comes_back(device)
    learn("one size", net, GraphedNetwork(net, reports.append), device, bf16=False)
    assert "run as CUDA graphs" in reports[-1]


def assert_used_memory_comes_back(device: torch.device) -> None:
    """Blocks that two streams used, as those of prefetched batches: an allocator that waits for a capture keeps them all."""
    other = torch.cuda.Stream(device)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    for _ in range(20):
        block = torch.empty(1 << 24, device=device)
        block.record_stream(other)
        del block
        torch.cuda.synchronize(device)
    torch.empty(1, device=device)  # takes back what is done
    assert torch.cuda.memory_allocated(device) - before < 4 << 24


@pytest.mark.parametrize("name", ["r2plus1d_18", "r3d_18", "f_r2d_18", "r2plus1d_50"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inference_is_the_same(
    name: str, precision: Any, device: torch.device, stand_in: type[RerunFunction] | None
) -> None:
    torch.manual_seed(0)
    net = create_model(name, width=8, num_classes=5, clip_length=8).to(device).eval()
    plain, fast = optimize(net, precision=precision, cuda_graphs=False), optimize(net, precision=precision)
    for seed in range(NUM_EAGER_CALLS + 4):
        for size in (1, 2):
            clips = torch.randn(size, 3, 8, 32, 32, generator=torch.Generator().manual_seed(seed)).to(device)
            expected = plain(clips)
            difference = (fast(clips) - expected).abs().max() / expected.abs().max()
            assert difference < (1e-5 if precision == "fp32" else 1e-2)
    assert fast.graphs is not None and len(fast.graphs._graphs) == 2
    with pytest.raises(ValueError, match="the clips hold numbers that are not finite"):
        fast(clips.fill_(float("nan")))
    assert fast(clips.fill_(1.0)).isfinite().all()
