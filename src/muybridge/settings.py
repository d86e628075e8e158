"""Every setting of a run, with its default.

`TrainSettings` is what `muybridge train` reads from the command line, from `--config recipe.yaml` and from a run folder's
settings.yaml, under the same names. Defaults are the paper's (Tran et al., CVPR 2018, section 4), or those of the authors'
code where the paper gives none (docs/protocol.md). Errors name the options to change. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Interval

from muybridge.bounds import (
    BatchSize,
    ClipLength,
    FlowGap,
    Fold,
    FrameSize,
    FramesPerSecond,
    FrameStep,
    InputChannels,
    Minutes,
    NetworkWidth,
    NormEpsilon,
    NumClips,
    NumFolds,
    NumWorkers,
    Seed,
    Share,
    StemMidChannels,
    check_fields,
)
from muybridge.records import Checkpoint, Modality, Preprocessing, TimeOrigin, parse_validation_share
from muybridge.training_settings import TrainingSettings

FoldUnit = Literal["group", "video"]  # what the folds of a cross-validation keep together
RecipeName = Literal["own_videos", "scratch", "paper", "modern"]

NUM_OFFICIAL_FOLDS = 3


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class NetworkSettings:
    """The network's shape beyond its name."""

    width: NetworkWidth = 64
    """Channels of the first stage; 64 in the paper."""
    input_channels: InputChannels | None = None
    """Channels of a frame, which the modality decides: 3 for rgb and 2 for flow."""
    mid_channel_rule: Literal["per_convolution", "per_block"] | None = None
    """How R(2+1)D chooses the channels between its two convolutions: per_convolution (paper) or per_block (torchvision); by
    default that of --init, else the paper's."""
    stem_mid_channels: StemMidChannels | None = None
    """Channels between the two convolutions of R(2+1)D's stem; by default 45 at width 64, as in the authors' code."""
    middle_relu: bool | None = None
    """ReLU between the two convolutions of (2+1)D; by default that of --init, else true, as in the paper."""
    norm_epsilon: NormEpsilon | None = None
    """Epsilon of batch norm; by default that of --init, else the authors' 1e-3 (torchvision has 1e-5)."""
    stem_pool: bool | None = None
    """A 1x3x3 max-pool after the stem; by default that of --init, else false, as in the paper."""

    def __post_init__(self) -> None:
        check_fields(self, "network.")


@dataclass(frozen=True)
class ClipSettings:
    """What a clip is. Defaults and checks are those of `Preprocessing`."""

    length: ClipLength = Preprocessing.clip_length
    """Frames in a clip."""
    stride: FrameStep = Preprocessing.frame_stride
    """Take every n-th frame."""
    frames_per_second: FramesPerSecond | None = Preprocessing.frames_per_second
    """Sample at this rate by time stamps; by default at the file's own rate. The authors' models saw 15."""
    scale: tuple[FrameSize, FrameSize] = (Preprocessing.scale_height, Preprocessing.scale_width)
    """Height and width every frame is scaled to, aspect ratio ignored."""
    crop: FrameSize = Preprocessing.crop
    """Height and width of the crop: random in training, centred in evaluation."""
    flow_gap: FlowGap = Preprocessing.flow_gap
    """With modality flow: frames from the first to the second frame of a flow; stride is from flow to flow."""
    flow_chain: bool = Preprocessing.flow_chain
    """With modality flow and a gap above 1: chain the flows from frame to frame instead of one flow over the gap."""
    mean: tuple[Annotated[float, Interval(ge=-1000, le=1000)], ...] = ()
    """Mean of each channel, subtracted; by default that of --init, else of Kinetics (rgb) or 0 (flow)."""
    std: tuple[Annotated[float, Interval(gt=0, le=1000)], ...] = ()
    """Standard deviation of each channel, divided by; by default that of --init, else of Kinetics (rgb) or of flow."""
    mirror: bool = True
    """Mirror half of the training clips. Turn off if left and right tell classes apart."""

    def __post_init__(self) -> None:
        check_fields(self, "clips.")
        # Flow has no restriction of its own but the number of its channels.
        self.make_preprocessing("rgb" if len(self.mean or self.std) == 3 else "flow")

    def make_preprocessing(self, modality: Modality) -> Preprocessing:
        """These settings as the record that the weights' card holds. Raises ValueError naming the setting to change."""
        values = {PREPROCESSING_NAMES.get(name, name): value for name, value in vars(self).items()}
        values["scale_height"], values["scale_width"] = values.pop("scale")
        del values["mirror"]  # an augmentation of training
        return Preprocessing(modality=modality, **values)


# Fields of ClipSettings whose name differs in Preprocessing; all others but `scale` and `mirror` have the same name in both.
PREPROCESSING_NAMES = {"length": "clip_length", "stride": "frame_stride"}


@dataclass(frozen=True)
class EvaluationSettings:
    """How a video is scored: by default the paper's protocol, 10 uniform centre crops, softmax averaged."""

    clips: NumClips = 10
    """Clips per video, uniformly spaced."""
    crops: Literal[1, 3] = 1
    """Crops of each clip: the centre; or three, at both ends of the longer side too (Feichtenhofer et al., 2019)."""
    clip_length: ClipLength | None = None
    """Frames in a clip; by default the network's own. It averages over time, so it takes longer ones, but for R2D (Table 4 of
    the paper)."""
    crop_size: FrameSize | None = None
    """Height and width of a crop; by default the network's own. It averages over places, so it takes larger ones (Touvron et
    al., 2019)."""
    batch_size: BatchSize = 40
    """About how many clips are in one forward pass; always whole videos."""
    average: Literal["softmax", "logits"] = "softmax"
    """What is averaged over the clips of a video."""
    keep: Literal["views", "videos"] = "views"
    """What the score file holds: the scores of every view, or each video's mean and how many of its views were right."""

    def __post_init__(self) -> None:
        check_fields(self, "evaluation.")

    @property
    def videos_per_batch(self) -> int:
        """Videos per batch. It depends on settings alone, so that logits do not depend on the number of ranks."""
        return max(1, self.batch_size // self.num_views)

    @property
    def num_views(self) -> int:
        """Crops of all clips of a video."""
        return self.clips * self.crops

    def adapt_preprocessing(self, preprocessing: Preprocessing) -> Preprocessing:
        """The preprocessing of a network with the length and crop of the clips to score. ValueError for crops out of frames."""
        length, crop = self.clip_length or preprocessing.clip_length, self.crop_size or preprocessing.crop
        height, width = preprocessing.scale_height, preprocessing.scale_width
        if crop > min(height, width):
            raise ValueError(f"evaluation.crop_size {crop} does not fit into frames of {height}x{width}; lower it")
        return replace(preprocessing, clip_length=length, crop=crop)


@dataclass(frozen=True)
class LoadingSettings:
    """Worker processes that read and decode videos."""

    workers: NumWorkers | None = None
    """Worker processes; by default one per processor core, at most 16; 0 reads in the training process itself."""
    prefetch: Annotated[int, Interval(ge=1, le=1024)] = 4
    """Batches that each worker prefetches."""
    max_failed_share: Share = 0.1
    """Training stops if more than this share of the clips cannot be read."""
    worker_restarts: Annotated[int, Interval(ge=0, le=1_000_000)] = 3
    """How often workers are restarted after one was killed before the run ends."""

    def __post_init__(self) -> None:
        check_fields(self, "loading.")


@dataclass(frozen=True)
class CheckpointSettings:
    """Checkpoints of a run in progress."""

    every_minutes: Minutes = 10.0
    """Minutes between checkpoints; one is also written at every validation and on Ctrl-C."""
    keep: Annotated[int, Interval(ge=1, le=1_000_000)] = 2
    """How many of the newest checkpoints to keep."""
    keep_best: bool = False
    """Also keep the checkpoint of the best validation."""

    def __post_init__(self) -> None:
        check_fields(self, "checkpoints.")


@dataclass(frozen=True)
class TimeoutSettings:
    """How long a phase may last before the process ends the run with an error that names the phase."""

    start_minutes: Minutes = 30.0
    """Starting the process group of a torchrun job."""
    step_minutes: Minutes = 30.0
    """Loading the clips of one step, or the step itself, in the slowest process."""
    scoring_minutes: Minutes = 30.0
    """Between two batches of an evaluation."""
    checkpoint_minutes: Minutes = 60.0
    """Waiting for a checkpoint to be written."""

    def __post_init__(self) -> None:
        check_fields(self, "timeouts.")


@dataclass(frozen=True)
class TrainSettings:
    """All settings of a training run."""

    data: str = ""
    """A folder of class folders, a list (CSV, TSV, text, JSON), or prepared data (docs/data.md)."""
    model: str = "r2plus1d_18"
    """A network of the family; `muybridge models` lists them."""
    output: str = "runs/latest"
    """The run folder to write."""
    recipe: RecipeName | None = None
    """Defaults of the training group: own_videos (with --init), scratch, paper or modern (without); see
    src/muybridge/recipes/training."""
    init: str | None = None
    """Weights to start from: a run folder, a .safetensors file, or a name of the catalogue."""
    modality: Modality = "rgb"
    """The network's input: RGB frames or optical flow."""
    columns: str | None = None
    """Which columns of a list are which, such as path=filename,label=class,group=subject; what is left out is guessed from
    the names (docs/data.md)."""
    fold: Fold | None = None
    """Which official fold to use, for data sets that have them; or which of --num-folds."""
    num_folds: NumFolds | None = None
    """Split the data into so many folds for cross-validation, whatever splits it has: fold K is the test split."""
    fold_by: FoldUnit = "group"
    """What the folds of --num-folds keep together: the videos of a group, or each video by itself."""
    source_fps: FramesPerSecond | None = None
    """The rate of frames stored without one: folders of pictures, archives, arrays (default: 25)."""
    time_origin: TimeOrigin | None = None
    """Where seconds of a list's segments count from: picture, the first frame of a file, or container, the clock of a player,
    which may start earlier, with the sound. Unset: that of the resumed run, or picture."""
    background: bool = False
    """Make time without a label within the ranges of reviewed.csv, beside a list of segments, the class background."""
    validation: str = "auto"
    """Videos held out to choose the best weights by. auto: those the data gives, else a tenth of the training groups; none: no
    training video; given: those the data gives, which it must; 0.2: that share of the training groups."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: Seed = 0
    """Seed of initial weights, splits, draws and crops."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    loading: LoadingSettings = field(default_factory=LoadingSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)

    def __post_init__(self) -> None:
        check_fields(self)
        highest = self.num_folds or NUM_OFFICIAL_FOLDS
        _require((self.fold or 1) <= highest, f"fold is {self.fold}, expected a whole number from 1 to {highest}")
        parse_validation_share(self.validation)
        # refuses settings of flow for rgb, and crops larger than frames
        self.evaluation.adapt_preprocessing(self.preprocessing)
        num_channels, given = self.preprocessing.input_channels, self.network.input_channels
        _require(
            given in (None, num_channels),
            f"network.input_channels is {given}, but {self.modality} frames have {num_channels} channels; leave it out",
        )
        _require(
            not (self.training.color_jitter and self.modality == "flow"),
            "training.color_jitter varies colours, which flow does not have; set it to 0",
        )
        for _, length, crop in self.training.multigrid:
            fits = length <= self.clips.length and crop <= self.clips.crop
            _require(
                fits, f"training.multigrid has clips of {length} frames and {crop} pixels, larger than those of clips"
            )
        _require(
            self.training.frozen_stages == 0 or self.init is not None,
            "training.frozen_stages freezes stages of pretrained weights; name weights with --init",
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of these settings, as written on the card."""
        return self.clips.make_preprocessing(self.modality)


@dataclass(frozen=True)
class EvaluateSettings:
    """All settings of an evaluation but the weights."""

    data: str
    """A folder of class folders, a list (CSV, TSV, text, JSON), or prepared data (docs/data.md)."""
    split: Literal["train", "validation", "test"] = "test"
    """The videos to score."""
    output: str | None = None
    """The score file to write; by default scores/<split>.parquet in the run folder, for other data, splits, weights or
    another protocol than the run's scores/<split>-<data>-<hash>.parquet. A .csv or .json is written besides that, with a row
    for each video; - prints such a table and nothing else."""
    columns: str | None = None
    """Which columns of a list are which, such as path=filename,label=class,group=subject; unset: as the run read the same
    data, else guessed from the names (docs/data.md)."""
    fold: Fold | None = None
    """Which official fold to use, for data sets that have them. Unset: the fold of the run if the data is the same, so that no
    training video is scored as a test video."""
    num_folds: NumFolds | None = None
    """Split the data into so many folds, of which --fold is the test split. Unset: as the run if the data is the same."""
    fold_by: FoldUnit | None = None
    """What the folds of --num-folds keep together. Unset: as the run if the data is the same, or groups."""
    source_fps: FramesPerSecond | None = None
    """The rate of frames stored without one. Unset: that of the run if the data is the same, or 25."""
    time_origin: TimeOrigin | None = None
    """Where seconds of a list's segments count from: picture, the first frame of a file, or container, the clock of a player,
    which may start earlier, with the sound. Unset: that of the run if the data is the same, or picture."""
    background: bool | None = None
    """Whether reviewed time without a label is the class background. Unset: as in the run if the data is the same, else no."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on a GPU that computes it in hardware, else fp32."""
    seed: Seed | None = None
    """Seed of the validation split if the data has none. Unset: that of the run, or 0."""
    validation: str | None = None
    """Videos held out for validation, as for train. Unset: as in the run if the data is the same, else auto."""
    checkpoint: Checkpoint | None = None
    """Which weights of a run folder: best, chosen by its validation videos, or last. Unset: best where there are any."""
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    loading: LoadingSettings = field(default_factory=LoadingSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)

    def __post_init__(self) -> None:
        check_fields(self)
        parse_validation_share(self.validation or "auto")


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """A settings dataclass as nested dicts, lists and scalars, as in a YAML file."""
    assert is_dataclass(settings) and not isinstance(settings, type)
    return {entry.name: _convert_value(getattr(settings, entry.name)) for entry in fields(settings)}


def _convert_value(value: Any) -> Any:
    if is_dataclass(value):
        return settings_to_dict(value)
    if isinstance(value, dict):
        return {key: _convert_value(inner) for key, inner in value.items()}
    return [_convert_value(inner) for inner in value] if isinstance(value, list | tuple) else value
