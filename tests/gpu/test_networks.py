"""Forms, precisions and folded networks on a GPU."""

import copy

import pytest
import torch
from torch.nn import functional

from muybridge.inference.folded import optimize
from muybridge.inference.scorer import NetworkScorer
from muybridge.kernels.convolution import set_forms
from muybridge.kernels.cuda import ConvolutionForms
from muybridge.kernels.precision import exact_float32
from muybridge.models.family import list_models
from muybridge.models.network import create_model

pytestmark = pytest.mark.gpu
NUM_STEPS = 200
FORMS = (
    None,
    *(ConvolutionForms(form, form, form) for form in ("conv3d", "frames", "pixels")),
    *(ConvolutionForms(*forms) for forms in (("conv3d", "frames", "conv3d"), ("pixels", "conv3d", "pixels"))),
)


def network_of(name: str = "r2plus1d_10", width: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model(name, width=width, num_classes=5, clip_length=4)


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double().cpu() - theirs.double().cpu()).abs().max() / theirs.double().abs().max())


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_every_form_gives_the_step_of_float64(forms: ConvolutionForms | None, device: torch.device) -> None:
    net = network_of(width=16).to(device)
    reference = copy.deepcopy(net).double().cpu()
    set_forms(net, forms)
    clips = torch.randn(4, 3, 4, 32, 32)
    with exact_float32(device):
        logits = net(clips.to(device))
        logits.square().sum().backward()
    expected = reference(clips.double())
    expected.square().sum().backward()
    assert relative_difference(logits.detach(), expected.detach()) < 1e-4
    for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        assert relative_difference(ours.grad, theirs.grad) < 5e-3


def losses_of(device: torch.device, *, bf16: bool, num_steps: int = NUM_STEPS) -> list[float]:
    """The loss over the steps of a training on the same clips."""
    net = network_of().to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    clips = torch.randn(8, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.arange(8, device=device) % 5
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = net(clips)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_fp32_and_bf16_learn_alike(device: torch.device) -> None:
    exact, rounded = losses_of(device, bf16=False), losses_of(device, bf16=True)
    assert max(exact[-20:]) < 0.1 * exact[0]
    assert max(rounded[-20:]) < 0.1 * rounded[0]
    assert abs(exact[0] - rounded[0]) < 0.05 * exact[0]


@pytest.mark.usefixtures("deterministic")
def test_a_step_is_the_same_in_every_run(device: torch.device) -> None:
    first, second = (losses_of(device, bf16=True, num_steps=20) for _ in range(2))
    assert first == second


def test_the_cache_of_autocast_neither_keeps_old_weights_nor_loses_gradients(device: torch.device) -> None:
    """Within one context, as a caller may write it: a pass without gradients, one with them, a changed weight, another pass."""
    net, clips = network_of().to(device), torch.randn(4, 3, 4, 32, 32).to(device)
    convolutions = {name: value for name, value in net.named_parameters() if value.dim() == 5}
    with torch.autocast(device.type, torch.bfloat16):
        with torch.no_grad():
            net(clips)
        net(clips).float().square().sum().backward()
        assert all(value.grad is not None for value in convolutions.values())
        with torch.no_grad():
            for value in convolutions.values():
                value.copy_(value.flip(0))
        together = net(clips).detach()
    with torch.autocast(device.type, torch.bfloat16):
        apart = net(clips).detach()
    if device.type == "cuda":  # where the convolutions convert their weights themselves
        assert torch.equal(together, apart)


@pytest.mark.parametrize("name", [name for name in list_models() if name.endswith(("_18", "_50"))])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_optimized_networks_agree(name: str, precision: str, device: torch.device) -> None:
    net = network_of(name).eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        expected = net.double()(clips.double())
    fast = optimize(net.float().to(device), precision=precision)
    logits = NetworkScorer(fast, device, precision)(clips.to(device))
    assert relative_difference(logits, expected) < (1e-4 if precision == "fp32" else 0.1)
