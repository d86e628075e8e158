"""What cannot be trained is refused before anything is written; what can is told in advance."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from muybridge.loading.open_data import open_data
from muybridge.models.family import build_specification
from muybridge.models.network import VideoResNet
from muybridge.records import Preprocessing
from muybridge.settings import settings_to_dict
from muybridge.training import checks as checks_module
from muybridge.training import estimate as estimate_module
from muybridge.training.checkpoint import TrainState, save_checkpoint
from muybridge.training.checks import check_clips_fit
from muybridge.training.estimate import describe_job, measure_seconds_per_clip
from muybridge.training.job import prepare_job
from muybridge.training.network import initialize_network
from muybridge.training.optimizer import build_optimizer
from muybridge.weights.card import save
from runs import tiny_run
from videos import write_video

TINY_CLIPS = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)


def same(ours: VideoResNet, theirs: VideoResNet, name: str) -> bool:
    return torch.equal(ours.state_dict()[name], theirs.state_dict()[name])


def test_a_job_is_all_that_a_run_needs(motions: Path, tmp_path: Path) -> None:
    job = prepare_job(tiny_run(motions, tmp_path / "deep" / "run"))
    assert (len(job.train_manifest), len(job.validation_manifest), job.train_manifest.classes) == (
        16,
        4,
        ("left", "right"),
    )
    assert (job.schedule.num_steps, job.schedule.global_batch) == (12, 4)
    assert job.preprocessing == TINY_CLIPS
    assert job.notes == ()
    found = yaml.safe_load((tmp_path / "deep" / "run" / "settings.yaml").read_text())
    assert found == settings_to_dict(job.settings)
    assert sorted(path.name for path in (tmp_path / "deep" / "run").iterdir()) == [
        "environment.json",
        "network.json",
        "settings.yaml",
    ]


def test_the_seed_alone_decides_the_first_weights(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = initialize_network(settings, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, initialize_network(settings, 2), "stem.0.weight")
    assert not same(first, initialize_network(tiny_run(motions, tmp_path, {"seed": 1}), 2), "stem.0.weight")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "r2plus1d_19"}, r"r2plus1d_19.*did you mean r2plus1d_18"),
        (
            {"clips.length": 14},
            r"a clip spans 14 frames, but the longest .* has 13; lower clips\.length or clips\.stride",
        ),
        ({"clips.stride": 5}, r"a clip spans 16 frames"),
        ({"clips.frames_per_second": 6.0}, r"the longest .* has 3;"),  # 13 frames at 24 a second last 0.54 s
        ({"device": "cuda:99"}, r"device cuda:99 is not there"),
        ({"data": "nowhere"}, r"there is no folder or CSV file 'nowhere'"),
        ({"init": "nowhere.safetensors"}, r"nowhere\.safetensors"),
        ({"fold": 2}, r"no official folds"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    changes: dict[str, Any], words: str, motions: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words) as told:
        prepare_job(tiny_run(motions, tmp_path / "run", changes))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_model_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="r2plus1d_19"):
        prepare_job(tiny_run("nowhere", tmp_path / "run", {"model": "r2plus1d_19"}))


def test_a_folder_without_training_videos(motions: Path, tmp_path: Path) -> None:
    rows = "\n".join(
        f"{motions}/test/{label}/0000{n}.mp4,{label},test" for label in ("left", "right") for n in range(3)
    )
    (tmp_path / "test_only.csv").write_text(f"path,label,split\n{rows}\n")
    with pytest.raises(ValueError, match=r"test_only\.csv has no training videos; it has test"):
        prepare_job(tiny_run(tmp_path / "test_only.csv", tmp_path / "run"))


def test_one_readable_video_is_enough_to_start(tmp_path: Path) -> None:
    for name in ("a/broken.mp4", "a/good.mp4", "b/broken.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no video")
    every = open_data(str(tmp_path)).select_split("train")
    with pytest.raises(
        ValueError, match=rf"none of the {len(every)} training videos checked can be read; the first is"
    ):
        check_clips_fit(every, TINY_CLIPS)
    for index in range(len(every)):
        write_video(tmp_path / every.get_video(index), 4)
        check_clips_fit(every, TINY_CLIPS)


def test_a_long_list_is_looked_at_here_and_there(motions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_module, "NUM_VIDEOS_CHECKED", 4)
    train = open_data(str(motions)).select_split("train")
    looked_at = []

    def noting(source: Any, manifest: Any, index: int) -> Any:
        looked_at.append(index)
        return original(source, manifest, index)

    original = checks_module.read_segment_times
    monkeypatch.setattr(checks_module, "read_segment_times", noting)
    check_clips_fit(train, TINY_CLIPS)
    assert looked_at == [0, 4, 8, 12]


def refusal(settings: Any, *, resume: bool = False) -> str:
    with pytest.raises(ValueError) as told:
        prepare_job(settings, resume=resume)
    return str(told.value)


def test_run_folders_of_every_kind(motions: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "file is a file; name a folder" in refusal(tiny_run(motions, tmp_path / "file"))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    for resume in (False, True):
        assert "contains something other than a run" in refusal(tiny_run(motions, tmp_path / "foreign"), resume=resume)
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    prepare_job(tiny_run(motions, tmp_path / "empty"))
    # Nothing was learnt there yet: the same folder serves for another try, with other settings.
    prepare_job(tiny_run(motions, tmp_path / "empty", {"training.epochs": 3}))
    assert yaml.safe_load((tmp_path / "empty" / "settings.yaml").read_text())["training"]["epochs"] == 3


def learnt(job: Any) -> None:
    optimizer = build_optimizer(job.network, job.settings.training)
    save_checkpoint(job.folder / "checkpoints", job.network, optimizer, TrainState(5), keep=1)


def test_a_run_is_not_overwritten_and_not_mixed_with_another(motions: Path, tmp_path: Path) -> None:
    learnt(prepare_job(tiny_run(motions, tmp_path / "run")))
    assert "already contains a run; add --resume" in refusal(tiny_run(motions, tmp_path / "run"))
    changed = tiny_run(motions, tmp_path / "run", {"training.epochs": 3, "model": "r3d_10"})
    told = refusal(changed, resume=True)
    assert "model is r3d_10, the run has r2plus1d_10; training.epochs is 3, the run has 2" in told
    # What changes nothing about the result may change.
    free = {"loading.workers": 1, "checkpoints.keep": 5, "device": "cpu", "evaluation.batch_size": 7}
    assert prepare_job(tiny_run(motions, tmp_path / "run", free), resume=True).settings.loading.workers == 1


@pytest.mark.parametrize("content", ["[1", "", "text", "\x00"])
def test_damaged_settings_of_a_run_are_named(content: str, motions: Path, tmp_path: Path) -> None:
    learnt(prepare_job(tiny_run(motions, tmp_path / "run")))
    (tmp_path / "run" / "settings.yaml").write_text(content)
    assert "settings.yaml" in refusal(tiny_run(motions, tmp_path / "run"), resume=True)


def test_a_folder_that_cannot_be_written(motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError):
        prepare_job(tiny_run(motions, tmp_path / "file" / "run"))

    def read_only(*arguments: Any, **options: Any) -> Any:  # root may write anywhere
        raise PermissionError(13, "Permission denied", str(tmp_path / "run"))

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    with pytest.raises(PermissionError):
        prepare_job(tiny_run(motions, tmp_path / "run"))
    assert list((tmp_path / "run").iterdir()) == []


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., Path]:
    def write(classes: tuple[str, ...], model: str = "r2plus1d_10", **changes: Any) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(99)
            described = build_specification(model, num_classes=len(classes), width=4, clip_length=4, **changes)
            network = VideoResNet(described)
        path = tmp_path / f"{'_'.join(classes)}.safetensors"
        save(network, path, classes=classes, preprocessing=TINY_CLIPS, source="a test")
        return path

    return write


def init_job(motions: Path, tmp_path: Path, path: Path) -> Any:
    return prepare_job(tiny_run(motions, tmp_path / "run", {"init": str(path)}))


def test_weights_of_the_same_classes_bring_their_classifier(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    """The rows of the classifier follow the classes' names, whatever their order and spelling there."""
    path = weights(("Right", "LEFT"))
    job = init_job(motions, tmp_path, path)
    theirs = create_model_from(path)
    assert same(job.network, theirs, "layer4.0.conv2.0.0.weight")
    assert torch.equal(job.network.fc.weight, theirs.fc.weight.flip(0))
    assert torch.equal(job.network.fc.bias, theirs.fc.bias.flip(0))
    assert job.notes == (f"starting from {path} (a test) with their classifier",)


def create_model_from(path: Path) -> VideoResNet:
    from muybridge.weights.address import load_weights

    return load_weights(path)[0]


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("left", "up")])
def test_weights_of_other_classes_bring_all_but_their_classifier(
    classes: tuple[str, ...], motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(classes)
    job = init_job(motions, tmp_path, path)
    fresh, theirs = initialize_network(job.settings, 2), create_model_from(path)
    assert same(job.network, theirs, "stem.0.weight")
    assert same(job.network, theirs, "stem.1.running_mean")
    assert same(job.network, fresh, "fc.weight")
    assert job.notes == (f"starting from {path} (a test) with a new classifier of 2 classes",)


def test_more_classes_than_needed_still_bring_the_rows_that_are(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(("right", "up", "left"))
    job = init_job(motions, tmp_path, path)
    assert torch.equal(job.network.fc.weight, create_model_from(path).fc.weight[[2, 0]])


def test_weights_of_another_body_are_refused_by_shape(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    wider = {"init": str(weights(("a", "b"))), "network.width": 8}
    with pytest.raises(
        ValueError, match=r"r2plus1d_10 do not fit r2plus1d_10 .*stem\.0\.weight \(3, 3, 1, 7, 7\), expected \(6, 3"
    ):
        prepare_job(tiny_run(motions, tmp_path / "run", wider))
    with pytest.raises(ValueError, match=r"are of r3d_10, not of r2plus1d_10; add --model r3d_10"):
        init_job(motions, tmp_path, weights(("c", "d"), "r3d_10"))


def test_what_the_settings_leave_open_is_as_in_the_weights(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(("a", "b"), mid_channel_rule="per_block", norm_epsilon=1e-5, stem_pool=True)
    job = init_job(motions, tmp_path, path)
    found = job.network.specification
    assert (found.mid_channel_rule, found.norm_epsilon, found.stem_pool) == ("per_block", 1e-5, True)
    assert prepare_job(tiny_run(motions, tmp_path / "other")).network.specification.norm_epsilon == 1e-3
    learnt(job)
    path.unlink()
    again = prepare_job(job.settings, resume=True).network.specification
    assert again == found
    told = {"init": str(weights(("a", "b"))), "network.norm_epsilon": 0.01}
    job = prepare_job(tiny_run(motions, tmp_path / "third", told))
    assert job.network.specification.norm_epsilon == 0.01
    assert "epsilon of 0.01 where they were trained with 0.001" in job.notes[-1]


def test_the_inside_of_a_factorised_convolution_is_a_setting(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    changes = {"network.middle_relu": False, "network.stem_mid_channels": 9}
    found = prepare_job(tiny_run(motions, tmp_path / "run", changes)).network.specification
    assert (found.middle_relu, found.stem_mid_channels) == (False, 9)
    usual = prepare_job(tiny_run(motions, tmp_path / "usual")).network.specification
    assert (usual.middle_relu, usual.stem_mid_channels) == (True, 3)
    path = weights(("a", "b"), middle_relu=False, stem_mid_channels=5)
    inherited = prepare_job(tiny_run(motions, tmp_path / "tuned", {"init": str(path)})).network.specification
    assert (inherited.middle_relu, inherited.stem_mid_channels) == (False, 5)


def test_another_length_of_clips_is_free(motions: Path, tmp_path: Path, weights: Callable[..., Path]) -> None:
    """Table 3 of the paper: 8 frames, then 32."""
    path = weights(("a", "b"))
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"init": str(path), "clips.length": 12}))
    theirs = create_model_from(path)
    assert all(same(job.network, theirs, name) for name in theirs.state_dict() if not name.startswith("fc"))
    assert job.network.specification.clip_length == 12


def test_frozen_stages_stay_as_they_were(
    motions: Path, tmp_path: Path, weights: Callable[..., Path], trained: Callable[..., Any]
) -> None:
    path = weights(("a", "b"))
    changes = {"init": str(path), "training.frozen_stages": 2, "training.rate_factors": (1.0, 1.0, 1.0, 0.5, 1.0, 2.0)}
    settings = tiny_run(motions, tmp_path / "run", changes)
    assert "conv1 to conv2 frozen with their batch norm" in prepare_job(settings).notes[-1]
    trained(settings, resume=True)
    network = create_model_from(tmp_path / "run" / "last.safetensors")
    theirs, ours = create_model_from(path).state_dict(), network.state_dict()
    for name, tensor in theirs.items():
        if name.startswith(("stem.", "layer1.")):
            assert torch.equal(ours[name], tensor), f"{name} is frozen"
    assert not same(network, create_model_from(path), "layer2.0.conv1.0.0.weight")
    assert not same(network, create_model_from(path), "layer2.0.conv1.1.running_mean")
    with pytest.raises(ValueError, match="name weights with --init"):
        tiny_run(motions, tmp_path, {"training.frozen_stages": 1})


def test_a_run_that_goes_on_needs_its_first_weights_no_more(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(("a", "b"))
    learnt(init_job(motions, tmp_path, path))
    path.unlink()
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"init": str(path)}), resume=True)
    assert job.notes == ()


class Clock:
    """Every clip takes a tenth of a second, and the first step of each size a second more."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sizes: list[int] = []

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [2]), (4, [2, 4]), (6, [2, 4]), (64, [2, 4])])
def test_the_estimate_is_of_the_best_repeat_and_never_takes_long(
    batch_size: int, sizes: list[int], motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"training.batch_size": batch_size}))
    clock = Clock()
    monkeypatch.setattr(estimate_module, "time", clock)
    forward = VideoResNet.forward

    def timed(network: VideoResNet, clips: torch.Tensor) -> torch.Tensor:
        clock.now += 0.1 * len(clips) + (0.15 if len(clips) not in clock.sizes else 0.0)
        clock.sizes.append(len(clips))
        return forward(network, clips)

    monkeypatch.setattr(VideoResNet, "forward", timed)
    before = {name: tensor.clone() for name, tensor in job.network.state_dict().items()}
    assert measure_seconds_per_clip(job) == pytest.approx(0.1)
    assert sorted(set(clock.sizes)) == sizes
    assert all(torch.equal(before[name], tensor) for name, tensor in job.network.state_dict().items())


def test_what_is_said_before_a_run(motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "measure_seconds_per_clip", lambda job: 2.5)
    job = prepare_job(tiny_run(motions, tmp_path / "run"))
    count = sum(parameter.numel() for parameter in job.network.parameters())
    assert describe_job(job) == [
        f"r2plus1d_10 with {count:,} parameters on cpu; 16 training and 4 validation videos of 2 classes",
        "48 clips in 12 steps of 4: about 2 minutes at 0.4 clips a second, if loading keeps up, plus validation",
    ]
    learnt(job)
    assert "48 clips in 12 steps of 4, 7 of them left: about 70 seconds at 0.4 clips" in describe_job(job)[-1]
    optimizer = build_optimizer(job.network, job.settings.training)
    save_checkpoint(job.folder / "checkpoints", job.network, optimizer, TrainState(12), keep=1)
    assert describe_job(job)[-1] == "all 12 steps of the run are done"


def test_drawn_splits_are_told(motions: Path, tmp_path: Path) -> None:
    shutil.copytree(motions / "train", tmp_path / "data")
    (tmp_path / "data" / "left").rename(tmp_path / "data" / "west")
    notes = prepare_job(tiny_run(tmp_path / "data", tmp_path / "run")).notes
    assert [note.partition(":")[0] for note in notes] == ["No split given", "No validation split given"]
