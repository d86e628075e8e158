"""Checkpoints are whole or absent, the newest are kept, and a damaged one is named."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from muybridge.models.network import VideoResNet, create_model
from muybridge.training.checkpoint import (
    TrainState,
    find_last_step,
    list_checkpoints,
    load_checkpoint,
    read_checkpoint,
    read_newest_snapshot,
    save_checkpoint,
    take_snapshot,
    write_checkpoint,
)
from muybridge.training.optimizer import build_optimizer
from muybridge.training_settings import TrainingSettings


def new_network(seed: int, num_classes: int = 3) -> VideoResNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return create_model("mc3_10", width=4, num_classes=num_classes, clip_length=4)


def stepped(network: VideoResNet, optimizer: torch.optim.Optimizer) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        optimizer.zero_grad()
        torch.autograd.backward(network(torch.randn(2, 3, 4, 32, 32)).square().sum())
    optimizer.step()


def equal(ours: VideoResNet, theirs: VideoResNet) -> bool:
    return all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("training", [TrainingSettings(), TrainingSettings(optimizer="adamw")], ids=["sgd", "adamw"])
def test_what_is_loaded_goes_on_as_what_was_saved(training: TrainingSettings, tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, training)
    stepped(network, optimizer)
    progress = TrainState(3, num_drawn=12, num_failed=1, num_looped=2, best_accuracy=0.5, validated_step=2)
    path = save_checkpoint(tmp_path, network, optimizer, progress, keep=2)
    assert sorted(file.name for file in path.iterdir()) == ["network.safetensors", "optimizer.pt", "state.json"]

    other = new_network(1)
    other_optimizer = build_optimizer(other, training)
    assert not equal(network, other)
    assert load_checkpoint(path, other, other_optimizer) == progress
    assert equal(network, other)
    for both in ((network, optimizer), (other, other_optimizer)):
        stepped(*both)
    assert equal(network, other)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    assert find_last_step(tmp_path / "none") == 0
    for step in (8, 9, 10, 100):
        save_checkpoint(tmp_path, network, optimizer, TrainState(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    assert find_last_step(tmp_path) == 100


def test_a_folder_of_another_name_is_no_checkpoint_and_stays(tmp_path: Path) -> None:
    """A user's copy beside the checkpoints."""
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    foreign = [
        tmp_path / name for name in ("step-00000006-keep", "step-00000099-keep", "step-7", ".step-00000005-b.replaced")
    ]
    for folder in foreign:
        folder.mkdir()
    for step in (99_999_999, 100_000_000):
        save_checkpoint(tmp_path, network, optimizer, TrainState(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-99999999", "step-100000000"]
    assert find_last_step(tmp_path) == 100_000_000
    save_checkpoint(tmp_path, network, optimizer, TrainState(100_000_001), keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-100000001"]
    assert all(folder.is_dir() for folder in foreign)


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    save_checkpoint(tmp_path, network, optimizer, TrainState(4), keep=1)
    path = save_checkpoint(tmp_path, network, optimizer, TrainState(4, validated_step=4), keep=1)
    assert load_checkpoint(path, network, optimizer).validated_step == 4
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_checkpoints_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    path = save_checkpoint(tmp_path, network, optimizer, TrainState(4), keep=1)
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for step in (4, 5):
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, network, optimizer, TrainState(step), keep=1)
    assert list(tmp_path.iterdir()) == [path]
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_what_a_killed_process_left_is_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    leftover = tmp_path / ".step-00000007.partial"
    leftover.mkdir()
    (leftover / "network.safetensors").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == []
    network = new_network(0)
    save_checkpoint(tmp_path, network, build_optimizer(network, TrainingSettings()), TrainState(7), keep=1)
    assert not leftover.exists()


@pytest.mark.parametrize("name", ["network.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["half", "absent", "nonsense"])
def test_a_damaged_checkpoint_is_named_in_one_line(name: str, damage: str, tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings(optimizer="adamw"))
    stepped(network, optimizer)
    path = save_checkpoint(tmp_path, network, optimizer, TrainState(4), keep=1)
    content = (path / name).read_bytes()
    if damage == "absent":
        (path / name).unlink()
    else:
        (path / name).write_bytes(content[: len(content) // 2] if damage == "half" else b"nonsense, and more of it")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"^the checkpoint .*step-00000004 is damaged \(.*\)$") as raised:
        load_checkpoint(path, network, optimizer)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_another_network_or_format_is_refused(tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    path = save_checkpoint(tmp_path, network, optimizer, TrainState(4), keep=1)
    other = new_network(0, num_classes=5)
    with pytest.raises(ValueError, match="of another network than the settings describe"):
        load_checkpoint(path, other, build_optimizer(other, TrainingSettings()))
    state = json.loads((path / "state.json").read_text())
    for changed, words in (
        ({**state, "format": 3}, "is of format 3; use the version"),
        ({**state, "more": 1}, "is damaged"),
        ({"format": 1, "step": 3}, "is damaged"),
    ):
        (path / "state.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=words):
            load_checkpoint(path, network, optimizer)


@pytest.mark.parametrize("name", ["network.safetensors", "optimizer.pt", "state.json"])
def test_one_wrong_bit_anywhere_is_noticed_and_the_checkpoint_before_is_used(name: str, tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings(optimizer="adamw"))
    stepped(network, optimizer)
    save_checkpoint(tmp_path, network, optimizer, TrainState(3), keep=2)
    path = save_checkpoint(tmp_path, network, optimizer, TrainState(4), keep=2)
    content = bytearray((path / name).read_bytes())
    whole = bytes(content)
    for place in range(0, len(content), max(1, len(content) // 23)):
        content[place] ^= 1
        (path / name).write_bytes(content)
        with pytest.raises(ValueError, match="step-00000004"):
            read_checkpoint(path)
        content[place] ^= 1
    (path / name).write_bytes(whole)
    assert read_checkpoint(path).train_state.step == 4
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    snapshot, problems = read_newest_snapshot(tmp_path)
    assert snapshot is not None
    assert snapshot.train_state.step == 3
    assert len(problems) == 1
    assert "step-00000004 is damaged" in problems[0]
    assert "the one before is used" in problems[0]
    assert find_last_step(tmp_path) == 3
    assert read_newest_snapshot(tmp_path)[1] == []  # said once


def test_a_run_without_an_intact_checkpoint_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    for step in (3, 4):
        path = save_checkpoint(folder, network, optimizer, TrainState(step), keep=2)
        (path / "network.safetensors").write_bytes(b"nonsense")
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"step-00000004 is damaged .* no other that is intact.* --init .*/run "
        ) as raised:
            read_newest_snapshot(folder)
        assert "\n" not in str(raised.value)
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_what_the_system_cannot_read_is_not_called_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = new_network(0)
    for step in (3, 4):
        save_checkpoint(tmp_path, network, build_optimizer(network, TrainingSettings()), TrainState(step), keep=2)
    read_bytes = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == "optimizer.pt" and path.parent.name == "step-00000004":
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        read_newest_snapshot(tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_the_best_checkpoint_is_kept_if_asked_for(tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    for step in range(1, 6):
        snapshot = take_snapshot(network, optimizer, TrainState(step, best_step=min(step, 2)))
        write_checkpoint(tmp_path, snapshot, keep=1, keep_best=True)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000005"]


def test_a_snapshot_does_not_follow_the_network(tmp_path: Path) -> None:
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings(optimizer="adamw"))
    stepped(network, optimizer)
    snapshot = take_snapshot(network, optimizer, TrainState(1))
    before = {name: tensor.clone() for name, tensor in snapshot.weights.items()}
    moments = snapshot.optimizer_state["state"][0]["exp_avg"].clone()
    stepped(network, optimizer)
    assert all(torch.equal(snapshot.weights[name], tensor) for name, tensor in before.items())
    assert torch.equal(snapshot.optimizer_state["state"][0]["exp_avg"], moments)
    assert not torch.equal(network.state_dict()["fc.weight"], before["fc.weight"])


def test_nothing_in_a_checkpoint_can_run(tmp_path: Path) -> None:
    """optimizer.pt with a pickled call in it, as an attacker would write it, is refused and not run."""
    network = new_network(0)
    optimizer = build_optimizer(network, TrainingSettings())
    path = save_checkpoint(tmp_path, network, optimizer, TrainState(4), keep=1)
    torch.save(_Attack(tmp_path / "ran"), path / "optimizer.pt")
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(path, network, optimizer)
    assert not (tmp_path / "ran").exists()


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_tensors_are_stored_as_they_are(tmp_path: Path) -> None:
    network = new_network(0).to(memory_format=torch.channels_last_3d)
    path = save_checkpoint(tmp_path, network, build_optimizer(network, TrainingSettings()), TrainState(1), keep=1)
    stored = load_file(path / "network.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in network.state_dict().items())


def test_a_checkpoint_is_synced_before_its_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file, then their folder, then after the rename the folder of checkpoints: a power failure loses no half."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        events.append(f"rename {path.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    network = torch.nn.Linear(2, 2)
    save_checkpoint(tmp_path / "checkpoints", network, torch.optim.AdamW(network.parameters()), TrainState(5), keep=1)
    partial = ".step-00000005.partial"
    files = [f"sync {name}" for name in ("network.safetensors", "optimizer.pt", "state.json")]
    assert sorted(events[:3]) == files
    assert events[3:] == [f"sync {partial}", f"rename {partial}", "sync checkpoints"]
