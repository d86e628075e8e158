"""CUDA graphs with a stand-in for the graph itself: when they are made, used, compared and given up."""

import copy
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from graph_stand_in import RerunFunction, use_graph_stand_in
from muybridge.kernels import graphs
from muybridge.kernels.graphs import MAX_SHAPES, NUM_EAGER_CALLS, SWITCH, GraphCache, GraphedNetwork
from muybridge.models.network import create_model


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[RerunFunction]:
    return use_graph_stand_in(monkeypatch)


def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("r2plus1d_10", width=4, num_classes=3, clip_length=4).train()


def clips(number: int, size: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.randn(number, 3, 4, size, size, generator=torch.Generator().manual_seed(seed))


def learn(model: Callable[[torch.Tensor], torch.Tensor], net: nn.Module, batches: list[list[torch.Tensor]]) -> None:
    """One optimizer step a list of micro-batches."""
    optimizer = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], lr=0.1, momentum=0.9)
    for step in batches:
        optimizer.zero_grad(set_to_none=True)
        for micro_batch in step:
            model(micro_batch).square().sum().backward()
        optimizer.step()


STEPS = [[clips(2, seed=seed)] for seed in range(6)]
CASES = {
    "one shape": STEPS,
    "accumulation": [[clips(2, seed=seed), clips(2, seed=seed + 20)] for seed in range(6)],
    "a step of two sizes": [*STEPS, [clips(2), clips(1)], [clips(1), clips(2)], *STEPS],
    "another shape from some step on": [*STEPS, *([clips(2, size=20, seed=seed)] for seed in range(8))],
}


@pytest.mark.parametrize(("case", "frozen"), [*((case, False) for case in CASES), ("one shape", True)])
def test_weights_and_statistics_are_the_same_to_the_last_bit(
    case: str, frozen: bool, stand_in: type[RerunFunction]
) -> None:
    plain, graphed = network(), network()
    for net in (plain, graphed):
        net.stem.requires_grad_(not frozen)
    reports: list[str] = []
    learn(plain, plain, CASES[case])
    learn(GraphedNetwork(graphed, reports.append), graphed, CASES[case])
    for name, value in plain.state_dict().items():
        assert torch.equal(graphed.state_dict()[name], value), name
    num_shapes = 2 if case.startswith("another") else 1
    assert stand_in.num_captures == 2 * num_shapes  # forward and backward
    assert stand_in.num_replays > 2 * num_shapes * 2
    assert reports == ["passes over 2 clips run as CUDA graphs, which hold 0.0 GiB"]


def test_dropout_draws_as_without_graphs(stand_in: type[RerunFunction]) -> None:
    nets = [network() for _ in range(2)]
    for net, is_graphed in zip(nets, (False, True), strict=True):
        net.dropout = 0.5
        model = GraphedNetwork(net, print) if is_graphed else net
        for step in STEPS:
            torch.manual_seed(7)
            learn(model, net, [step])
    assert stand_in.num_replays > 2
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("wrong_by", [1e-3, float("nan")])
def test_what_differs_from_an_eager_step_is_given_up(wrong_by: float, stand_in: type[RerunFunction]) -> None:
    stand_in.wrong_by = wrong_by
    plain, graphed, reports = network(), network(), []
    learn(plain, plain, STEPS)
    learn(GraphedNetwork(graphed, reports.append), graphed, STEPS)
    assert all(torch.equal(*pair) for pair in zip(graphed.parameters(), plain.parameters(), strict=True))
    (report,) = reports
    assert report.startswith("training runs without CUDA graphs, which is slower for small batches: results differ")
    assert stand_in.num_captures == 2


def test_a_difference_may_be_allowed(stand_in: type[RerunFunction]) -> None:
    stand_in.wrong_by = 1e-9
    net, reports = network(), []
    learn(GraphedNetwork(net, reports.append, max_difference=0.05), net, STEPS)
    assert "run as CUDA graphs" in reports[0]


@pytest.mark.parametrize("error", [RuntimeError("not permitted\nwhile capturing"), torch.OutOfMemoryError("full")])
def test_a_failed_capture_is_one_sentence(error: Exception, stand_in: type[RerunFunction]) -> None:
    stand_in.error = error
    plain, graphed, reports = network(), network(), []
    learn(plain, plain, STEPS)
    learn(GraphedNetwork(graphed, reports.append), graphed, STEPS)
    assert all(torch.equal(*pair) for pair in zip(graphed.parameters(), plain.parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in zip(graphed.buffers(), plain.buffers(), strict=True))
    text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert reports == [
        f"training runs without CUDA graphs, which is slower for small batches: capturing failed ({text})"
    ]
    assert stand_in.num_captures == 1


def test_a_batch_that_is_not_finite_is_no_batch_to_judge_by(stand_in: type[RerunFunction]) -> None:
    net, reports = network(), []
    model, broken = GraphedNetwork(net, reports.append), clips(2).fill_(float("nan"))
    for batch in [clips(2)] * NUM_EAGER_CALLS + [broken]:
        model(batch)
    assert not reports
    for buffer in net.buffers():
        buffer.zero_()
    model(clips(2))
    assert "run as CUDA graphs" in reports[0]


def test_evaluation_and_anomaly_detection_are_eager(stand_in: type[RerunFunction]) -> None:
    net = network()
    model = GraphedNetwork(net, print)
    with torch.no_grad():
        for _ in range(NUM_EAGER_CALLS + 2):
            model(clips(2))
    with torch.autograd.set_detect_anomaly(True):
        for _ in range(NUM_EAGER_CALLS + 2):
            model(clips(2))
    net.eval()
    for _ in range(NUM_EAGER_CALLS + 2):
        model(clips(2))
    assert stand_in.num_captures == 0


def test_autocast_is_part_of_what_was_captured(stand_in: type[RerunFunction]) -> None:
    net = network()
    model = GraphedNetwork(net, print)
    for _ in range(NUM_EAGER_CALLS + 1):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(clips(2))
            assert logits.dtype == torch.bfloat16
            logits.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        expected = net(clips(2))
        assert torch.equal(model(clips(2)), expected)
    assert model(clips(2)).dtype == torch.float32
    assert stand_in.num_captures == 2


def test_graphs_make_room_where_memory_is_short(stand_in: type[RerunFunction], monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    model = GraphedNetwork(net, print)
    for _ in range(NUM_EAGER_CALLS + 1):
        model(clips(2))
    held = model._graphs
    assert held is not None
    held.num_bytes = 100
    monkeypatch.setattr(model, "_last_call", held.call._replace(device=torch.device("cuda", 0)))
    for name, value in {"memory_reserved": 160, "memory_allocated": 30}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70, 1000))  # and 30 that only others may use
    model.make_room()
    assert model.num_bytes == 100
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (69, 1000))
    model.make_room()
    assert model.num_bytes == 0


def double(values: torch.Tensor) -> torch.Tensor:
    return 2 * values


def test_a_cache_keeps_graphs_of_the_latest_shapes(stand_in: type[RerunFunction]) -> None:
    cache = GraphCache()
    for size in range(1, MAX_SHAPES + 2):
        for value in range(NUM_EAGER_CALLS + 2):
            values = torch.full((size,), float(value))
            assert torch.equal(cache.run(double, values), 2 * values)
    assert stand_in.num_captures == MAX_SHAPES + 1
    assert [call.shape[0] for call in cache._graphs] == list(range(2, MAX_SHAPES + 2))
    cache.run(double, torch.ones(2))
    for _ in range(NUM_EAGER_CALLS + 1):
        cache.run(double, torch.ones(1))  # the first one again
    assert [call.shape[0] for call in cache._graphs] == [*range(4, MAX_SHAPES + 2), 2, 1]


def test_results_are_tensors_of_the_caller(stand_in: type[RerunFunction]) -> None:
    cache = GraphCache()
    results = [cache.run(double, torch.full((3,), float(value))) for value in range(8)]
    assert [int(result[0]) for result in results] == list(range(0, 16, 2))  # none was overwritten
    with torch.inference_mode():
        assert cache.run(double, torch.ones(3)).is_inference()
    with torch.no_grad():
        assert not cache.run(double, torch.ones(3)).is_inference()
    assert stand_in.num_captures == 1


def test_large_batches_and_other_threads_are_eager(
    stand_in: type[RerunFunction], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = GraphCache()
    monkeypatch.setattr(graphs, "MAX_VALUES", 4)
    for _ in range(NUM_EAGER_CALLS + 1):
        cache.run(double, torch.ones(5))
        cache.run(double, torch.ones(0))
    assert stand_in.num_captures == 0
    with cache._lock:
        results: list[torch.Tensor] = []
        thread = threading.Thread(target=lambda: results.append(cache.run(double, torch.ones(3))))
        thread.start()
        thread.join(timeout=20)
    assert torch.equal(results[0], torch.full((3,), 2.0))


def test_copies_start_without_graphs(stand_in: type[RerunFunction]) -> None:
    cache = GraphCache()
    for _ in range(NUM_EAGER_CALLS + 1):
        cache.run(double, torch.ones(3))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert not other._graphs
        assert torch.equal(other.run(double, torch.ones(3)), torch.full((3,), 2.0))
    cache.clear()
    assert not cache._graphs


@pytest.mark.parametrize("fault", ["capture", "difference", "switch"])
def test_a_cache_is_given_up_with_one_line(
    fault: str, stand_in: type[RerunFunction], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if fault == "switch":
        monkeypatch.setenv(SWITCH, "off")
    stand_in.error = RuntimeError("not permitted") if fault == "capture" else None
    stand_in.wrong_by = 0.1 if fault == "difference" else 0.0
    cache = GraphCache()
    for _ in range(2 * NUM_EAGER_CALLS):
        assert torch.equal(cache.run(double, torch.ones(3)), torch.full((3,), 2.0))
    assert stand_in.num_captures == (0 if fault == "switch" else 1)
    expected = {"capture": ["not permitted"], "difference": ["differ"], "switch": []}[fault]
    assert len(caplog.messages) == len(expected)
    assert all(text in message for text, message in zip(expected, caplog.messages, strict=True))
