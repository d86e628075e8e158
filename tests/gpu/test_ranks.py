"""Two processes that share the one GPU, with gradients over gloo: NCCL wants a GPU for each."""

import pytest
import torch

from ranks import run_ranks
from shared_gpu_work import NUM_STEPS, RATE, make_clips, make_network, train_together

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("sync_batch_norm", [False, True])
def test_two_processes_train_as_one(sync_batch_norm: bool, device: torch.device) -> None:
    name = "cuda:0" if device.type == "cuda" else "cpu"
    ours, theirs = run_ranks(2, train_together, name, sync_batch_norm)
    assert isinstance(ours, dict), ours
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())
    net, clips = make_network(device), make_clips(device)
    start = {key: value.detach().cpu().clone() for key, value in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad(set_to_none=True)
        for part in clips.chunk(1 if sync_batch_norm else 2):  # statistics over all clips, or over each half
            (net(part).square().sum() / 2).backward()  # DistributedDataParallel takes the mean of the ranks
        optimizer.step()
    for key, value in net.named_parameters():
        expected = value.detach().cpu()
        change = (expected - start[key]).abs().max()
        assert (ours[key] - expected).abs().max() < 0.02 * change + 1e-7, key
