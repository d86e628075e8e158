"""Batch norm over ranks against torch's own over the whole batch: outputs, gradients and running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rank_work
from ranks import run_ranks


@pytest.mark.parametrize(
    "cuts", [[0, 1, 8], *(pytest.param(cuts, marks=pytest.mark.long) for cuts in ([0, 4, 8], [0, 0, 8], [0, 3, 5, 8]))]
)
def test_ranks_together_are_one_batch(cuts: list[int]) -> None:
    draw = torch.Generator().manual_seed(11)
    maps = torch.randn(8, 3, 2, 3, 3, generator=draw) * 3 + 5
    weights = torch.randn(8, 5, 2, 3, 3, generator=draw)
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv3d(3, 5, 1), nn.BatchNorm3d(5))
    with torch.no_grad():
        network[1].weight.uniform_(0.5, 2.0)
    whole = maps.clone().requires_grad_()
    out = network(whole)
    torch.autograd.backward((out * weights).sum())

    found = run_ranks(len(cuts) - 1, rank_work.run_batch_norm, maps, weights, cuts)
    assert all(isinstance(rank, dict) and rank["norm_type"] == "SynchronizedBatchNorm" for rank in found), found
    torch.testing.assert_close(torch.cat([rank["out"] for rank in found]), out.detach(), rtol=1e-5, atol=1e-5)
    assert whole.grad is not None
    torch.testing.assert_close(torch.cat([rank["maps"] for rank in found]), whole.grad, rtol=1e-4, atol=1e-5)
    for rank in found:
        torch.testing.assert_close(rank["mean"], network[1].running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(rank["variance"], network[1].running_var, rtol=1e-5, atol=1e-6)
        for ours, parameter in zip(rank["parameters"], network.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=2e-4)
