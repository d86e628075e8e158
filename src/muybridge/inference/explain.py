"""Where and when a network sees a class: Grad-CAM in time and space.

Input: normalised clips and a class for each. Output: maps (N, T, H, W) from 0 to 1, as large as the clips. The channels of
the last stage are weighted by the mean gradient of the class's logit, summed, and cut at 0 (Selvaraju et al., ICCV 2017,
equations 1 and 2, with time as a third dimension). Maps are as coarse as the last stage, 1/16 of a side and 1/8 of the
frames, and interpolated. They are computed by the plain network in float32, since folded ones have no gradients.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from muybridge.inference.finite import check_finite_outputs
from muybridge.models.network import VideoResNet

_OPACITY = 0.5  # of the strongest evidence


def compute_grad_cam(network: VideoResNet, clips_ncthw: Tensor, labels_n: Tensor) -> Tensor:
    """Maps float32 (N, T, H, W) of clips (N, C, T, H, W) for the classes `labels_n`, int64 (N,).

    Each clip's largest value is 1; a clip without evidence for its class is 0 everywhere. Raises as `compute_evidence`.
    """
    evidence, _ = compute_evidence(network, clips_ncthw, labels_n)
    return normalize_evidence(evidence)


def normalize_evidence(evidence_nthw: Tensor) -> Tensor:
    """The evidence of each clip relative to its largest."""
    largest = evidence_nthw.amax(dim=(1, 2, 3), keepdim=True)
    return evidence_nthw / torch.where(largest > 0, largest, 1.0)


def compute_evidence(network: VideoResNet, clips_ncthw: Tensor, labels_n: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of `compute_grad_cam` before they are made relative, so that those of clips can be compared, and the logits.

    The network is left as it was. Raises ValueError for a label that is no class, for logits and maps that are not finite,
    and as the network does for clips of another shape.
    """
    num_classes = network.specification.num_classes
    if labels_n.shape != clips_ncthw.shape[:1] or bool(((labels_n < 0) | (labels_n >= num_classes)).any()):
        raise ValueError(f"labels must be one class from 0 to {num_classes - 1} for each clip, not {labels_n.tolist()}")
    is_training = network.training
    network.eval()
    maps: list[Tensor] = []
    hook = network.layer4.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    try:
        with torch.enable_grad():
            # A network whose weights are frozen still has gradients with respect to its input.
            logits = network(clips_ncthw.detach().requires_grad_())
            chosen = logits.gather(1, labels_n[:, None].to(logits.device)).sum()
            check_finite_outputs(logits, "logits")
            (gradients,) = torch.autograd.grad(chosen, maps[0])
    finally:
        hook.remove()
        network.train(is_training)
    weights = gradients.mean(dim=(2, 3, 4), keepdim=True)
    evidence = (weights * maps[0].detach()).sum(dim=1, keepdim=True).clamp(min=0).float()
    evidence = functional.interpolate(evidence, size=clips_ncthw.shape[2:], mode="trilinear", align_corners=False)
    check_finite_outputs(evidence, "maps of evidence")
    return evidence.squeeze(1), logits.detach()


def color_evidence(evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Evidence (...) from 0 to 1 as colours with an opacity (..., 4): the more, the more opaque."""
    layer = mpl.colormaps["inferno"](evidence)
    layer[..., 3] = _OPACITY * evidence
    colors: NDArray[np.uint8] = np.rint(layer * 255).astype(np.uint8)
    return colors


def draw_evidence(frames_thwc: NDArray[np.uint8], evidence_thw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) with evidence (T, H, W) from 0 to 1 as colour over them: the more, the more opaque."""
    layer = color_evidence(evidence_thw)
    colors, opacity = layer[..., :3], layer[..., 3:] / np.float32(255)
    mixed: NDArray[np.uint8] = np.rint(frames_thwc * (1 - opacity) + colors * opacity).astype(np.uint8)
    return mixed
