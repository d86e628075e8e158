"""`ClipDataset` in Lightning's Trainer: the clips of every epoch, persistent workers and Lightning's distributed sampler."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.videos import write_video
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler

import muybridge
from muybridge.loading.clip_dataset import ClipDataset
from muybridge.records import Preprocessing

lightning = pytest.importorskip("lightning", reason="lightning is not installed: pip install '.[notebooks]'")

SMALL = Preprocessing(clip_length=4, scale_height=24, scale_width=32, crop=16)
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("default")]


@pytest.fixture
def dataset(tmp_path: Path) -> ClipDataset:
    for label in ("left", "right"):
        for split, count in (("train", 4), ("validation", 1)):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(count):
                write_video(tmp_path / split / label / f"{number}.mp4", 40, height=24, width=32)
    return ClipDataset(tmp_path, preprocessing=SMALL)


class Classifier(lightning.LightningModule):  # type: ignore[misc]  # untyped where it is not installed
    """The network in a module of Lightning, which notes the clips it sees, by epoch."""

    def __init__(self, dataset: ClipDataset) -> None:
        super().__init__()
        self.network = muybridge.create_model("r2plus1d_10", num_classes=2, width=4, clip_length=4)
        self.dataset = dataset
        self.seen: dict[int, list[torch.Tensor]] = {}

    def on_train_epoch_start(self) -> None:
        self.dataset.set_epoch(self.current_epoch)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        clips, labels = batch
        self.seen.setdefault(self.current_epoch, []).extend(clips.clone())
        return functional.cross_entropy(self.network(clips), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module: Classifier, loader: DataLoader[Any], folder: Path, epochs: int) -> None:
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_every_epoch_has_its_own_clips(dataset: ClipDataset, tmp_path: Path, workers: int) -> None:
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "forkserver"} if workers else {}
    module = Classifier(dataset)
    before = module.network.fc.weight.detach().clone()
    fit(module, DataLoader(dataset, batch_size=4, **options), tmp_path, epochs=3)  # type: ignore[arg-type]
    assert not torch.equal(module.network.fc.weight, before)
    for epoch in range(3):
        expected = ClipDataset(dataset.manifest, preprocessing=SMALL)
        expected.set_epoch(epoch)
        assert torch.equal(torch.stack(module.seen[epoch]), torch.stack([expected[index][0] for index in range(8)]))
    assert not torch.equal(torch.stack(module.seen[0]), torch.stack(module.seen[1]))


def test_a_distributed_sampler_gives_each_rank_its_share(dataset: ClipDataset, tmp_path: Path) -> None:
    seen = []
    for rank in (0, 1):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=True, seed=3)
        module = Classifier(dataset)
        loader = DataLoader(dataset, batch_size=2, sampler=sampler)
        fit(module, loader, tmp_path, epochs=2)  # Lightning calls the sampler's set_epoch
        seen.append({epoch: {clip.numpy().tobytes() for clip in clips} for epoch, clips in module.seen.items()})
    for epoch in (0, 1):
        whole = ClipDataset(dataset.manifest, preprocessing=SMALL)
        whole.set_epoch(epoch)
        assert seen[0][epoch] | seen[1][epoch] == {whole[index][0].numpy().tobytes() for index in range(8)}
        assert not seen[0][epoch] & seen[1][epoch]
