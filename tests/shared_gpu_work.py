"""What two processes that share one GPU do in tests/gpu/test_ranks.py, a module that both can import."""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.distributed.process_group import join_process_group
from muybridge.models.network import VideoResNet, create_model
from muybridge.training.data_parallel import wrap_for_training

NUM_STEPS, RATE = 2, 1e-4


def make_network(device: torch.device) -> VideoResNet:
    torch.manual_seed(0)
    return create_model("r2plus1d_10", width=8, num_classes=5, clip_length=4).to(device).train()


def make_clips(device: torch.device) -> Tensor:
    return torch.randn(8, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)


def train_together(device_name: str, sync_batch_norm: bool) -> dict[str, Tensor]:
    """The weights after a few steps on half of the clips each; gradients travel over gloo."""
    device = torch.device(device_name)
    torch.backends.cudnn.deterministic = True
    with join_process_group(torch.device("cpu")) as process_group:
        net, clips = make_network(device), make_clips(device)
        half = clips.chunk(2)[process_group.rank.rank]
        model = wrap_for_training(net, process_group, sync_batch_norm=sync_batch_norm, example_clips=half[:2])
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
        for _ in range(NUM_STEPS):
            optimizer.zero_grad(set_to_none=True)
            model(half).square().sum().backward()
            optimizer.step()
        return {name: value.cpu() for name, value in net.named_parameters()}
