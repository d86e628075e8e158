import pytest
import torch
from torch import nn

from muybridge.inference.scorer import NetworkScorer, eval_mode
from muybridge.models.network import create_model

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("mc2_10", num_classes=3, width=4, clip_length=4)


def test_scores_are_those_of_evaluation_mode_and_change_nothing() -> None:
    net = network()
    clips = torch.randn(2, 3, 4, 16, 16)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    expected = net.eval()(clips).detach()
    net.train()
    scorer = NetworkScorer(net, CPU)
    assert torch.equal(scorer(clips), expected)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    net(clips)
    assert not torch.equal(net.state_dict()["stem.1.running_mean"], before["stem.1.running_mean"]), "train mode differs"


def test_scores_are_float32_on_the_cpu_without_gradients() -> None:
    class Half(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return clips.mean(dim=(2, 3, 4)).bfloat16()

    scores = NetworkScorer(Half(), CPU)(torch.ones(2, 3, 4, 8, 8, requires_grad=True))
    assert (scores.dtype, scores.device, scores.requires_grad) == (torch.float32, CPU, False)


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_afterwards_as_it_was(fails: bool) -> None:
    net = network().train()
    net.get_submodule("layer1").eval()  # as a frozen stage is
    modes = [module.training for module in net.modules()]
    assert len(set(modes)) == 2
    try:
        with eval_mode(net):
            assert not any(module.training for module in net.modules())
            assert torch.is_inference_mode_enabled()
            if fails:
                raise KeyError("anything")
    except KeyError:
        pass
    assert [module.training for module in net.modules()] == modes
    assert not torch.is_inference_mode_enabled()
