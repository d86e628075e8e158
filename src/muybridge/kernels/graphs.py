"""CUDA graphs: the kernels of a function recorded once and then launched together, so that launches do not bound small batches.

What is captured: in training the forward pass of a network, and its backward pass from the gradient of the logits to those of
the parameters (`GraphedNetwork`); in inference a function from clips to logits (`GraphCache`). Augmentation, loss, checks of
finite numbers, optimizer and collectives run as without graphs. Why it is safe:

- Inputs are copied into fixed memory, and weights and running statistics are the network's own tensors, which training changes
  in place. Gradients leave a graph as ordinary gradients, so optimizer state and checkpoints know nothing of graphs.
- Only after NUM_EAGER_CALLS calls of one shape, which load libraries and compile kernels, is that shape captured. Batches of
  another shape run eagerly.
- A new graph is compared with an eager run on the clips at hand. Where capture fails or the results differ, everything runs
  eagerly, and one line says so.
- Capture is strict about calls of its own thread alone ("thread_local"): others, such as that of pinned memory, may go on.
- A graph keeps the memory of one pass for itself, about as much as an eager pass allocates.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

GRAPH_DEVICE_TYPES = {"cuda"}  # tests add "cpu", with a stand-in for `CapturedFunction`
SWITCH = "MUYBRIDGE_CUDA_GRAPHS"  # environment variable; "off" turns graphs of inference off
NUM_EAGER_CALLS = 3
MAX_SHAPES = 4  # of a `GraphCache`; the least recently used graph is dropped
MAX_VALUES = 16 * 3 * 16 * 112 * 112  # of the input of a `GraphCache`: larger batches are not bound by launches
_MAX_CAPTURES = 32  # of a `GraphedNetwork`; one takes about as long as three steps
_MAX_INFERENCE_DIFFERENCE = 1e-2  # relative to the largest number: algorithms of cuDNN may sum in another order
_logger = logging.getLogger(__name__)
_Results = list[Tensor | None]


class CapturedFunction:
    """The kernels of `function`, which reads tensors in fixed memory; `outputs` is where `replay` writes its results."""

    def __init__(self, function: Callable[[], _Results], device: torch.device, pool: Any) -> None:
        self._graph = torch.cuda.CUDAGraph()
        stream = _get_capture_stream(device)
        with torch.cuda.device(device):
            before = torch.cuda.current_stream()
            try:
                capture = torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local")
                with capture:
                    self.outputs = function()
            except BaseException:
                # A failed capture leaves the allocator waiting for its end, and its pool in use.
                with suppress(RuntimeError, AttributeError):
                    torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
                    torch._C._cuda_releasePool(torch.cuda.current_device(), pool)
                raise
            finally:
                torch.cuda.set_stream(before)  # which a failed capture does not restore

    def replay(self) -> None:
        """Launch the kernels on the current stream."""
        self._graph.replay()


@functools.cache
def _get_capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all captures on a device: graphs that share a pool must be captured on the same."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _make_pool(device: torch.device) -> Any:
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None


class _Call(NamedTuple):
    """What a graph depends on besides the values of its input."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None
    settings: tuple[object, ...]


def _describe_call(values: Tensor) -> _Call:
    kind, cudnn = values.device.type, torch.backends.cudnn
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    float32 = torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return _Call(values.shape, values.dtype, values.device, autocast, (*float32, cudnn.deterministic))


def _can_capture(values: Tensor) -> bool:
    return (
        values.device.type in GRAPH_DEVICE_TYPES
        and values.numel() > 0
        and type(values) is Tensor
        and not values.requires_grad
        and not torch.is_anomaly_enabled()
        and not torch.compiler.is_compiling()
        and not (values.is_cuda and torch.cuda.is_current_stream_capturing())
    )


class _PassGraphs:
    """Forward and backward pass of a network for clips of one shape, as two graphs that share a pool."""

    def __init__(self, network: nn.Module, clips: Tensor, call: _Call) -> None:
        self.call, self.parameters = call, [value for value in network.parameters() if value.requires_grad]
        self.num_bytes = self.num_forwards = 0
        self._network, self._clips = network, clips.detach().clone()
        self._attached_logits: Tensor | None = None  # with their autograd graph, between the two passes

    def run_eagerly(self) -> _Results:
        """Logits and gradients as `replay` gives them, without graphs; the logits are their own gradient."""
        (logits,) = self._forward()
        assert logits is not None
        self._logits_gradient = logits.clone()
        return [logits, *self._backward()]

    def capture(self) -> None:
        """Record both passes; `run_eagerly` comes first."""
        device, pool = self._clips.device, _make_pool(self._clips.device)
        num_bytes = _count_reserved_bytes(device)
        self._forward_graph = CapturedFunction(self._forward, device, pool)
        self._backward_graph = CapturedFunction(self._backward, device, pool)
        self.num_bytes = max(0, _count_reserved_bytes(device) - num_bytes)

    def run_forward(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> logits (N, classes)."""
        self.num_forwards += 1
        self._keep_gradients()
        self._clips.copy_(clips)
        self._forward_graph.replay()
        (logits,) = self._forward_graph.outputs
        assert logits is not None
        return logits.clone()

    def run_backward(self, logits_gradient: Tensor) -> _Results:
        """The gradients of `parameters` for those of the latest logits."""
        self._logits_gradient.copy_(logits_gradient)
        self._backward_graph.replay()
        return [None if gradient is None else gradient.detach() for gradient in self._backward_graph.outputs]

    def _keep_gradients(self) -> None:
        """Copy the gradients of an earlier pass of the step: they are in the pool, which the forward pass writes to as well."""
        for parameter, gradient in zip(self.parameters, self._backward_graph.outputs, strict=True):
            own = parameter.grad
            if own is not None and gradient is not None and own.data_ptr() == gradient.data_ptr():
                parameter.grad = own.clone()

    def _forward(self) -> _Results:
        kind, dtype = self._clips.device.type, self.call.autocast
        with torch.enable_grad(), torch.autocast(kind, dtype, enabled=dtype is not None, cache_enabled=False):
            logits: Tensor = self._network(self._clips)
        self._attached_logits = logits
        return [logits.detach()]

    def _backward(self) -> _Results:
        # Not kept: nodes that accumulate gradients belong to the stream of the capture, and later passes would wait for it.
        logits, self._attached_logits = self._attached_logits, None
        assert logits is not None
        gradients = torch.autograd.grad(logits, self.parameters, self._logits_gradient, allow_unused=True)
        return [_lay_out_as(*pair) for pair in zip(gradients, self.parameters, strict=True)]


def _lay_out_as(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """A gradient in the memory format of its parameter, as autograd accumulates it."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class _ReplayPass(torch.autograd.Function):
    """Clips and parameters -> logits, by the graphs of a pass."""

    @staticmethod
    def forward(ctx: Any, graphs: _PassGraphs, clips: Tensor, *parameters: Tensor) -> Tensor:
        logits = graphs.run_forward(clips)
        ctx.graphs, ctx.number = graphs, graphs.num_forwards
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the parameters."""
        assert ctx.number == ctx.graphs.num_forwards, "a backward pass follows its forward pass"
        return None, None, *ctx.graphs.run_backward(gradient)


class GraphedNetwork:
    """A network in training mode whose passes over clips of one shape run as CUDA graphs.

    `report` gets a sentence where graphs are used for the first time, or given up. `max_difference` from an eager pass is
    relative to the largest number of each tensor; 0 asks for the same bits.
    """

    def __init__(self, network: nn.Module, report: Callable[[str], object], *, max_difference: float = 0.0) -> None:
        self._network, self._report, self._max_difference = network, report, max_difference
        self._graphs: _PassGraphs | None = None
        self._last_call: _Call | None = None
        self._num_in_a_row = self._num_captures = 0
        self._counts: Counter[_Call] = Counter()

    @property
    def num_bytes(self) -> int:
        """Memory that the graphs keep for themselves."""
        return self._graphs.num_bytes if self._graphs else 0

    def __call__(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> logits (N, classes), with gradients for the parameters."""
        if not (_can_capture(clips) and torch.is_grad_enabled() and self._network.training):
            logits: Tensor = self._network(clips)
            return logits
        call = _describe_call(clips)
        if self._is_capture_due(call):
            self._replace_graphs(clips, call)
        if self._graphs is not None and self._graphs.call == call:
            logits = _ReplayPass.apply(self._graphs, clips, *self._graphs.parameters)  # type: ignore[no-untyped-call]
        else:
            self.make_room()
            logits = self._network(clips)
        return logits

    def _is_capture_due(self, call: _Call) -> bool:
        """Count a call. Graphs are replaced where as many calls in a row had another shape, such as of a phase of multigrid."""
        self._counts[call] += 1
        self._num_in_a_row = self._num_in_a_row + 1 if call == self._last_call else 1
        self._last_call = call
        if self._graphs is not None and self._graphs.call == call:
            return False
        number = self._counts[call] if self._graphs is None else self._num_in_a_row
        return number > NUM_EAGER_CALLS and self._num_captures < _MAX_CAPTURES

    def make_room(self) -> None:
        """Drop the graphs unless as much memory as they hold is free for what follows. They are captured again."""
        if self._graphs is None or self._last_call is None or self._last_call.device.type != "cuda":
            return
        device = self._last_call.device
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device) - self.num_bytes
        if torch.cuda.mem_get_info(device)[0] + max(0, unused) < self.num_bytes:
            self._release()

    def _release(self) -> None:
        self._graphs = None
        torch.cuda.empty_cache()  # without effect where CUDA is not used

    def _replace_graphs(self, clips: Tensor, call: _Call) -> None:
        self._release()
        is_first, self._num_captures = self._num_captures == 0, self._num_captures + 1
        graphs, difference, failure = _PassGraphs(self._network, clips, call), None, ""
        try:
            difference = _compare_with_eager(graphs, self._network)
        except RuntimeError as error:  # torch's and CUDA's errors, out of memory among them
            failure = _describe_failure(error)
        if difference is not None and difference > self._max_difference:
            failure = f"results differ from those of an eager step by {difference:.1e}"
        if failure:
            del graphs
            self._give_up(failure)
        elif difference is None:  # not a step to judge by
            self._num_captures -= 1
        else:
            self._graphs = graphs
            if is_first:
                size = graphs.num_bytes / 2**30
                self._report(f"passes over {len(clips)} clips run as CUDA graphs, which hold {size:.1f} GiB")

    def _give_up(self, reason: str) -> None:
        self._num_captures = _MAX_CAPTURES
        self._release()
        self._report(f"training runs without CUDA graphs, which is slower for small batches: {reason}")


def _describe_failure(error: RuntimeError) -> str:
    cause = error.__context__ or error  # the end of a failed capture raises an error of its own
    return f"capturing failed ({type(cause).__name__}: {str(cause).partition(chr(10))[0]})"


def _compare_with_eager(graphs: _PassGraphs, network: nn.Module) -> float | None:
    """Capture `graphs`, and measure how their results differ from an eager pass; None where that is not finite.

    Running statistics and generators are left as they were.
    """
    buffers = list(network.buffers())
    saved = [buffer.clone() for buffer in buffers]

    def run(function: Callable[[], _Results | None]) -> _Results:
        device = graphs.call.device
        try:
            with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
                results = function() or []
            return [*results, *(buffer.clone() for buffer in buffers)]
        finally:
            for buffer, value in zip(buffers, saved, strict=True):
                buffer.copy_(value)

    def replay() -> _Results:
        logits = graphs.run_forward(graphs._clips)
        return [logits, *graphs.run_backward(logits)]

    expected = run(graphs.run_eagerly)
    if not all(bool(value.isfinite().all()) for value in expected if value is not None):
        return None
    run(graphs.capture)
    return _measure_difference(run(replay), expected)


def _measure_difference(actual: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """The largest difference between two lists of tensors, relative to the largest number of each; 0 for the same bits."""
    largest = 0.0
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None and not torch.equal(ours, theirs):
            scale = theirs.double().abs().max().clamp_min(torch.finfo(torch.float32).tiny)
            difference = float((ours.double() - theirs.double()).abs().max() / scale)
            largest = max(largest, difference) if difference == difference else float("inf")
    return largest


def _count_reserved_bytes(device: torch.device) -> int:
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


class GraphCache:
    """Graphs of a function of one tensor without gradients, one for each of the last MAX_SHAPES shapes of small batches.

    They share a pool, so that the largest decides how much memory they hold. Hooks of a captured module do not run again.
    """

    def __init__(self) -> None:
        self._graphs: OrderedDict[_Call, tuple[Tensor, CapturedFunction]] = OrderedDict()
        self._num_calls: Counter[_Call] = Counter()
        self._is_enabled = os.environ.get(SWITCH, "").lower() != "off"
        self._pool: Any = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[GraphCache], tuple[()]]:
        """Copies and pickles start without graphs."""
        return GraphCache, ()

    def clear(self) -> None:
        """Drop the graphs, since the memory that they read was replaced."""
        with self._lock:
            self._graphs.clear()
            self._num_calls.clear()
            self._pool = None

    def run(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """`function(values)`; it must be the same function each time. A thread that finds another one here runs eagerly."""
        can_capture = self._is_enabled and values.numel() <= MAX_VALUES and _can_capture(values)
        if not can_capture or not self._lock.acquire(blocking=False):
            return function(values)
        try:
            call = _describe_call(values)
            self._num_calls[call] += 1
            is_early = self._num_calls[call] <= NUM_EAGER_CALLS
            if call not in self._graphs and (is_early or not self._add_graph(function, values, call)):
                return function(values)
            self._graphs.move_to_end(call)
            return _replay_function(*self._graphs[call], values).clone()
        finally:
            self._lock.release()

    def _add_graph(self, function: Callable[[Tensor], Tensor], values: Tensor, call: _Call) -> bool:
        """Whether a graph for `call` was captured and agrees with an eager run. Otherwise graphs are off from now on."""
        while len(self._graphs) >= MAX_SHAPES:
            dropped, _ = self._graphs.popitem(last=False)
            del self._num_calls[dropped]
        try:
            # Normal tensors, which may be written outside of inference mode too.
            with torch.inference_mode(False), torch.no_grad():
                static = values.clone()
                expected = function(static)
                self._pool = self._pool or _make_pool(values.device)
                graph = CapturedFunction(lambda: [function(static)], values.device, self._pool)
                difference = _measure_difference([_replay_function(static, graph, values)], [expected])
        except RuntimeError as error:
            reason = _describe_failure(error)
        else:
            if not bool(expected.isfinite().all()):
                return False  # nothing to judge by
            if difference <= _MAX_INFERENCE_DIFFERENCE:
                self._graphs[call] = static, graph
                return True
            reason = f"results differ from those without by {difference:.1e}"
        self._is_enabled = False
        _logger.warning("inference runs without CUDA graphs, which is slower for single clips: %s", reason)
        return False


def _replay_function(static: Tensor, graph: CapturedFunction, values: Tensor) -> Tensor:
    static.copy_(values)
    graph.replay()
    (output,) = graph.outputs
    assert output is not None
    return output
