from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.videos import write_video
from torch.utils.data import DataLoader, DistributedSampler

from muybridge.loading.clip_dataset import ClipDataset
from muybridge.loading.open_data import open_data
from muybridge.records import Preprocessing, VideoError

SMALL = Preprocessing(clip_length=4, scale_height=24, scale_width=32, crop=16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 3), ("test", 1)):
        for label in ("left", "right"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                write_video(root / split / label / f"{number}.mp4", 40, height=24, width=32)
    folder = root / "train" / "left" / "frames"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.full((24, 32, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    return root


def read_all(dataset: ClipDataset, **options: Any) -> torch.Tensor:
    loader = DataLoader(dataset, batch_size=3, multiprocessing_context="forkserver" if options else None, **options)
    return torch.cat([clips for clips, _ in loader])


def test_items_are_clips_and_labels_of_the_videos_in_order(data: Path) -> None:
    dataset = ClipDataset(data, preprocessing=SMALL)
    labels = [label for _, label in (dataset[index] for index in range(len(dataset)))]
    assert dataset.classes == ("left", "right")
    assert labels == [dataset.manifest.get_labels(index)[0] for index in range(len(dataset))]
    assert sorted(labels) != labels or len(set(labels)) == 2
    clip = dataset[-1][0]
    assert clip.shape == (3, 4, 16, 16)
    assert clip.dtype == torch.float32
    with pytest.raises(IndexError, match="outside a dataset of"):
        dataset[len(dataset)]


def test_a_draw_is_a_function_of_seed_epoch_and_index(data: Path) -> None:
    first, again, other = (ClipDataset(data, preprocessing=SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(read_all(first), read_all(again))
    assert not torch.equal(read_all(other), read_all(ClipDataset(data, preprocessing=SMALL, seed=1)))
    again.set_epoch(1)
    changed = read_all(again)
    assert not torch.equal(changed, read_all(ClipDataset(data, preprocessing=SMALL, seed=1)))
    again.set_epoch(0)
    assert torch.equal(read_all(again), read_all(ClipDataset(data, preprocessing=SMALL, seed=1)))


def test_persistent_workers_see_the_epoch(data: Path) -> None:
    dataset = ClipDataset(data, preprocessing=SMALL)
    loader = DataLoader(
        dataset, batch_size=3, num_workers=2, persistent_workers=True, multiprocessing_context="forkserver"
    )
    for epoch in (0, 3, 1):
        dataset.set_epoch(epoch)
        alone = ClipDataset(data, preprocessing=SMALL)
        alone.set_epoch(epoch)
        assert torch.equal(torch.cat([clips for clips, _ in loader]), read_all(alone))


def test_forgetting_the_epoch_warns_once(data: Path) -> None:
    dataset = ClipDataset(data, preprocessing=SMALL)
    read_all(dataset)
    with pytest.warns(UserWarning, match=r"call dataset\.set_epoch\(epoch\) before each epoch") as caught:
        read_all(dataset)
    assert len(caught) == 1
    dataset.set_epoch(1)
    read_all(dataset)  # warnings are errors here
    evaluated = ClipDataset(data, "test", preprocessing=SMALL)
    read_all(evaluated)
    read_all(evaluated)


def test_ranks_share_the_videos(data: Path) -> None:
    dataset = ClipDataset(data, preprocessing=SMALL)
    samplers = [DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=False) for rank in (0, 1)]
    batches = [next(iter(DataLoader(dataset, batch_size=9, sampler=sampler)))[0] for sampler in samplers]
    dataset.set_epoch(0)
    whole = read_all(dataset)
    assert torch.equal(batches[0], whole[::2])
    assert torch.equal(batches[1][: len(whole) // 2], whole[1::2])


def test_transforms_and_evaluation(data: Path) -> None:
    dataset = ClipDataset(data, "test", preprocessing=SMALL, transforms=lambda clip: clip[:, ::2] * 0)
    assert dataset[0][0].shape == (3, 2, 16, 16)
    assert not dataset[0][0].any()
    plain = ClipDataset(open_data(str(data)), "test", preprocessing=SMALL)
    before = plain[0][0]
    plain.set_epoch(5)
    assert torch.equal(plain[0][0], before), "the centre clip is the same in every epoch"


def test_wrong_input_is_a_sentence(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="data is a path or a Manifest, not list"):
        ClipDataset([str(data)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="transforms is called with each clip, but int cannot be called"):
        ClipDataset(data, transforms=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no videos in the split unused; it has"):
        ClipDataset(data, "unused")
    with pytest.raises(ValueError, match="an epoch is 0 or more"):
        ClipDataset(data).set_epoch(-1)


def test_a_bad_video_is_named(data: Path, tmp_path: Path) -> None:
    for label in ("left", "right"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "bad.mp4").write_bytes(b"not a video")
    with pytest.raises(VideoError, match=r"left/bad\.mp4: the file"):
        ClipDataset(tmp_path, preprocessing=SMALL, split="train")[0]
