"""Networks under torch.func, and with the hooks that others' tools set."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.kernels.temporal import convolve_temporal
from muybridge.kernels.transforms import is_transformed
from muybridge.kernels.winograd import convolve_winograd
from muybridge.models.network import create_model


def winograd(maps: Tensor, weight: Tensor) -> Tensor:
    maps = maps if is_transformed() else maps.contiguous(memory_format=torch.channels_last)
    return convolve_winograd(maps, weight)


def temporal(rows: Tensor, weight: Tensor) -> Tensor:
    return convolve_temporal(rows, weight, stride=2, padding=1)


OPERATORS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "winograd": (winograd, lambda maps, weight: functional.conv2d(maps, weight, padding=1), (6, 5, 3, 3)),
    "temporal": (temporal, lambda rows, weight: functional.conv2d(rows, weight, None, (2, 1), (1, 0)), (6, 5, 3, 1)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_own_operators_are_those_of_torch_under_torch_func(name: str) -> None:
    ours, theirs, shape = OPERATORS[name]
    generator = torch.Generator().manual_seed(0)
    maps, weight = (torch.randn(*size, generator=generator) for size in ((3, 2, 5, 8, 12), shape))
    weights = torch.randn(3, *shape, generator=generator)
    for operator_inputs, in_dims in (
        ((maps, weight), (0, None)),
        ((maps[0], weights), (None, 0)),
        ((maps, weights), 0),
    ):
        mapped = torch.func.vmap(ours, in_dims)(*operator_inputs)
        torch.testing.assert_close(mapped, torch.func.vmap(theirs, in_dims)(*operator_inputs), atol=1e-4, rtol=1e-4)

    def lossy(operator: Any) -> Any:
        return torch.func.grad(lambda weight, maps: operator(maps, weight).square().mean(), argnums=(0, 1))

    for gradient in (
        lambda operator: lossy(operator)(weight, maps[0]),
        lambda operator: torch.func.vmap(lossy(operator), (None, 0))(weight, maps),
    ):
        torch.testing.assert_close(gradient(ours), gradient(theirs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "mc3_10", "f_r2d_10"])
def test_gradients_of_every_clip_are_those_of_clips_alone(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, num_classes=3, width=8, clip_length=4).eval()
    parameters = {key: value.detach() for key, value in net.named_parameters()}
    buffers = dict(net.named_buffers())
    clips, labels = torch.randn(3, 3, 4, 32, 32), torch.tensor([0, 2, 1])

    def loss(parameters: dict[str, Tensor], clip: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(net, (parameters, buffers), (clip[None],))
        return functional.cross_entropy(logits, label[None])

    together = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, clips, labels)
    for index in range(3):
        net.zero_grad()
        functional.cross_entropy(net(clips[index : index + 1]), labels[index : index + 1]).backward()
        for key, parameter in net.named_parameters():
            torch.testing.assert_close(together[key][index], parameter.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:`torch.jit.*:DeprecationWarning")  # torch's own rules of jvp are scripted
@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10"])
def test_derivatives_forward_and_backward_agree(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, num_classes=2, width=8, clip_length=4).eval()
    clip, direction = torch.randn(2, 1, 3, 4, 32, 32)
    jacobian = torch.func.jacrev(lambda clip: net(clip)[0])(clip)
    logits, slopes = torch.func.jvp(lambda clip: net(clip)[0], (clip,), (direction,))
    torch.testing.assert_close(logits, net(clip)[0])
    torch.testing.assert_close(slopes, jacobian.flatten(1) @ direction.flatten(), atol=1e-4, rtol=1e-3)


def test_grad_cam_by_hooks() -> None:
    """As the usual packages do it: a hook on the last stage keeps its maps and their gradient."""
    torch.manual_seed(0)
    net = create_model("r2plus1d_10", num_classes=3, width=8, clip_length=8).eval()
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept["maps"] = output
        output.register_hook(lambda gradient: kept.update(gradient=gradient))

    handle = net.layer4.register_forward_hook(keep)
    logits = net(torch.randn(1, 3, 8, 32, 32))
    logits[0, 1].backward()
    handle.remove()
    # The head is a mean and a linear layer, so the gradient is the class's weights over the number of positions.
    num_positions = kept["maps"][0, 0].numel()
    expected = net.fc.weight[1].detach() / num_positions
    torch.testing.assert_close(kept["gradient"][0], expected[:, None, None, None].expand_as(kept["maps"][0]))
    cam = (kept["gradient"].mean((2, 3, 4), keepdim=True) * kept["maps"]).sum(1).relu()
    assert cam.shape == (1, *kept["maps"].shape[2:])
    activation = (kept["maps"].mean((2, 3, 4)) @ net.fc.weight[1]) + net.fc.bias[1]
    torch.testing.assert_close(activation[0], logits[0, 1])
