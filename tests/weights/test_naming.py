"""The preprocessing of other projects, as their sources and papers state it: in shares of 255, and the shorter side of 4:3."""

from __future__ import annotations

import pytest

from muybridge.weights.naming import SCHEMES, NamingScheme

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # MMAction2 multiplies them by 255 and rounds
KINETICS = (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)  # Hara et al., 3D-ResNets-PyTorch, main.py
PYTORCHVIDEO = (0.45,) * 3, (0.225,) * 3  # its model zoo and SlowFast's configurations
# Clip length and stride, shorter side and crop: r2plus1d_r34_8x8x1, opts.py, Kinetics 16x4.
PUBLISHED = {
    "MMAction2": ((8, 8, 256, 224), IMAGENET),
    "3D-ResNets-PyTorch": ((16, 1, 112, 112), KINETICS),
    "PyTorchVideo": ((16, 4, 256, 224), PYTORCHVIDEO),
}
POOLS = {"MMAction2": (True, 1), "3D-ResNets-PyTorch": (True, 2), "PyTorchVideo": (False, 1)}


@pytest.mark.parametrize("scheme", [one for one in SCHEMES if one.owner], ids=lambda one: str(one.owner))
def test_videos_are_prepared_as_the_project_prepared_its_own(scheme: NamingScheme) -> None:
    (length, stride, side, crop), (mean, std) = PUBLISHED[scheme.owner]
    preprocessing = scheme.preprocessing
    assert preprocessing is not None
    assert (preprocessing.clip_length, preprocessing.frame_stride, preprocessing.frames_per_second) == (
        length,
        stride,
        None,
    )
    assert (preprocessing.scale_height, preprocessing.scale_width) == (side, round(side * 4 / 3))
    assert preprocessing.crop == crop
    assert [value / 255 for value in preprocessing.mean] == pytest.approx(mean, abs=1e-5)
    assert [value / 255 for value in preprocessing.std] == pytest.approx(std, abs=1e-5)


@pytest.mark.parametrize("scheme", [one for one in SCHEMES if one.owner], ids=lambda one: str(one.owner))
def test_pytorchs_epsilon_and_the_pool_of_the_project(scheme: NamingScheme) -> None:
    assert scheme.traits["norm_epsilon"] == 1e-5
    pool = (scheme.traits.get("stem_pool", False), scheme.traits.get("stem_pool_time_stride", 1))
    assert pool == POOLS[scheme.owner]
