"""Grad-CAM against a network whose evidence is known, and against finite differences of the plain network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from muybridge.inference.explain import compute_grad_cam, draw_evidence
from muybridge.models.network import VideoResNet, create_model


def make_network(name: str = "r2plus1d_10") -> VideoResNet:
    torch.manual_seed(0)
    return create_model(name, num_classes=3, clip_length=8, width=4)


def compute_maps_and_slopes(network: VideoResNet, clips: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """The maps of the last stage in float64, and by finite differences the slope of the logit in each of their values."""
    network.eval()
    maps = clips.double()
    network = network.double()
    with torch.no_grad():
        for stage in network.stages:
            maps = stage(maps)
        maps = maps.contiguous()
        slopes = torch.zeros_like(maps)
        for index in range(maps.numel()):
            logits = []
            for sign in (1, -1):
                moved = maps.clone()
                moved.view(-1)[index] += sign * 1e-4
                logits.append(network.fc(moved.mean(dim=(2, 3, 4)))[0, label])
            slopes.view(-1)[index] = (logits[0] - logits[1]) / 2e-4
    return maps, slopes


def test_maps_are_the_definition_with_slopes_by_finite_differences() -> None:
    network, clips = make_network(), torch.randn(1, 3, 8, 32, 32)
    evidence_by_label = {label: compute_grad_cam(network, clips, torch.tensor([label])) for label in range(3)}
    label, evidence = max(evidence_by_label.items(), key=lambda item: float(item[1].sum()))
    assert float(evidence.max()) == 1
    maps, slopes = compute_maps_and_slopes(network, clips, label)
    expected = (slopes.mean(dim=(2, 3, 4), keepdim=True) * maps).sum(dim=1, keepdim=True).clamp(min=0)
    expected = torch.nn.functional.interpolate(expected, size=(8, 32, 32), mode="trilinear", align_corners=False)
    torch.testing.assert_close(evidence, (expected / expected.max()).squeeze(1).float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["r3d_10", "f_r2d_10", "r2d_10", "mc3_10", "rmc3_10", "r2plus1d_10"])
def test_every_family_is_explained(name: str) -> None:
    network = make_network(name)
    clips = torch.randn(3, 3, 8, 64, 64)
    evidence = torch.stack([compute_grad_cam(network, clips, torch.full((3,), label)) for label in range(3)])
    assert evidence.shape == (3, 3, 8, 64, 64)
    assert float(evidence.min()) >= 0
    assert set(evidence.amax(dim=(2, 3, 4)).unique().tolist()) <= {0.0, 1.0}
    assert float(evidence.std(dim=0).max()) > 0  # evidence is of a class


def test_the_network_is_left_as_it_was() -> None:
    network, clips = make_network(), torch.randn(2, 3, 8, 32, 32)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compute_grad_cam(network, clips, torch.tensor([0, 2]))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.layer4._forward_hooks


def test_frozen_networks_and_no_grad_still_explain() -> None:
    network, clips = make_network(), torch.randn(1, 3, 8, 32, 32)
    expected = compute_grad_cam(network, clips, torch.tensor([2]))
    network.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(compute_grad_cam(network, clips, torch.tensor([2])), expected)


@pytest.mark.parametrize("labels", [[3], [-1], [0, 1]])
def test_labels_that_do_not_fit_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="labels must be one class from 0 to 2 for each clip"):
        compute_grad_cam(make_network(), torch.randn(1, 3, 8, 32, 32), torch.tensor(labels))


def test_evidence_is_colour_over_the_frame() -> None:
    frames = np.full((1, 2, 2, 3), 100, np.uint8)
    evidence = np.array([[[0.0, 1.0], [0.5, 0.0]]], np.float32)
    drawn = draw_evidence(frames, evidence)
    assert drawn[0, 0, 0].tolist() == [100, 100, 100]
    assert drawn[0, 0, 1].tolist() != [100, 100, 100]
    strong, weak = (np.abs(drawn[0, row, column].astype(int) - 100).max() for row, column in ((0, 1), (1, 0)))
    assert strong > weak > 0
    color = np.array([252, 255, 164])  # the last of "inferno"
    assert np.abs(drawn[0, 0, 1] - (100 + color) / 2).max() <= 1
