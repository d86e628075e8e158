"""Which runs each study needs: one grid per table and figure, at two scales.

Input: a `StudyConfig`. Output: a `Grid`, key -> `RunGroup`, where keys are the rows or cells of the printed table. Paper scale
trains the recipes; laptop scale keeps the form of every network and shrinks everything else (`laptop.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from muybridge.models.family import FAMILIES, compute_mid_channels
from muybridge.records import Modality
from muybridge.settings import NetworkSettings, TrainSettings
from muybridge.studies.laptop import (
    OTHER_MOTIONS,
    STUDY_CLIPS,
    STUDY_DEPTHS,
    TARGET_MOTIONS,
    build_laptop_settings,
)
from muybridge.studies.paper import FIGURE5A_LENGTHS, TABLE3
from muybridge.studies.plan import (
    DataSource,
    EvaluatedSplit,
    EvaluationSpec,
    FusedRun,
    PlannedRun,
    RunGroup,
    motion_source,
    with_seeds,
)
from muybridge.studies.study import Grid, Scale, StudyConfig
from muybridge.training.recipes import load_recipe

DEPTHS: dict[Scale, tuple[int, int]] = {"paper": (18, 34), "laptop": STUDY_DEPTHS}
CLIPS: dict[Scale, int] = {"paper": 10, "laptop": STUDY_CLIPS}  # a video, of the paper's protocol and of ours
RECIPE_LENGTHS = {"r2plus1d": (8, 16, 32)}  # of Kinetics at 18 layers; every other family has recipes for 8 and 16
FINE_TUNING_SHARE = 15 / 45  # of the epochs from scratch: the paper's fine-tuning
FINE_TUNING_RATE = 0.5  # of the rate from scratch, laptop; the paper's tenth moves a network little in a thousand clips
MODALITIES: dict[str, Modality] = {"RGB": "rgb", "Flow": "flow"}

TABLE2_LENGTHS = (8, 16)
FIGURE_LENGTH = 16  # of Figures 3 and 6 and the decomposition
TABLE3_LENGTHS: dict[Scale, dict[int, int]] = {"paper": {8: 8, 32: 32}, "laptop": {8: 8, 32: 24}}  # printed -> ours
TABLE4_LENGTHS: dict[Scale, dict[int, int]] = {"paper": {8: 8, 32: 32}, "laptop": {8: 8, 32: 16}}
TABLE4_CLIPS: dict[Scale, int] = {"paper": 100, "laptop": 25}
STREAM_LENGTH: dict[Scale, int] = {"paper": 32, "laptop": 16}  # of Tables 5 and 6
FIGURE5_LENGTHS: dict[Scale, tuple[int, ...]] = {"paper": FIGURE5A_LENGTHS, "laptop": (4, 8, 16, 24, 32)}
# Figure 5b: the length of clips, and how many are averaged. Laptop: 25 clips are all positions of 8 frames in 32.
FIGURE5_AVERAGED_LENGTH: dict[Scale, int] = {"paper": 32, "laptop": 8}
FIGURE5_CLIPS: dict[Scale, tuple[int, ...]] = {"paper": (1, 5, 10, 20, 50, 100), "laptop": (1, 2, 3, 5, 9, 13, 25)}
TARGETS = ("ucf101", "hmdb51")  # of Table 6
FOLDS = (1, 2, 3)
KINETICS, SPORTS = "Kinetics", "Sports-1M"


def build_empty_grid(config: StudyConfig) -> Grid:
    """Table 1 is counted, not trained."""
    return {}


def build_table2_grid(config: StudyConfig) -> Grid:
    """(family, length): twelve networks at two lengths. Figure 4 reads the same runs."""
    return {
        (family, length): _group(config, _plan_from_scratch(config, family, length))
        for length in TABLE2_LENGTHS
        for family in FAMILIES
    }


def build_table3_grid(config: StudyConfig) -> Grid:
    """Row of `paper.TABLE3`: three trainings of R(2+1)D, the first evaluated at two lengths."""
    lengths, grid = TABLE3_LENGTHS[config.scale], Grid()
    for printed in TABLE3:
        run = _plan_from_scratch(config, "r2plus1d", lengths[printed.train])
        if printed.finetune is not None:
            recipe = "fine_tuning/kinetics400_r2plus1d_18_32f_from_8f"
            run = _plan_fine_tuning(config, run, config.source, recipe, length=lengths[printed.finetune])
        grid[printed] = _group(config, run, _build_evaluation(config, lengths[printed.test]))
    return grid


def build_table4_grid(config: StudyConfig) -> Grid:
    """Printed method: R3D once, R(2+1)D at two lengths in two streams and their mean.

    At paper scale the test split is evaluated: the recipes of Sports-1M train on its whole training list.
    """

    def plan(family: str, printed_length: int) -> PlannedRun:
        recipe = f"sports1m_{family}_34_{printed_length}f"
        return _plan_recipe(config, config.source, recipe, family, TABLE4_LENGTHS[config.scale][printed_length])

    split: EvaluatedSplit = "test" if config.scale == "paper" else config.split
    evaluations = {
        printed: replace(_build_evaluation(config, length, TABLE4_CLIPS[config.scale]), split=split)
        for printed, length in TABLE4_LENGTHS[config.scale].items()
    }
    grid: Grid = {"R3D-RGB-8frame": _group(config, plan("r3d", 8), evaluations[8])}
    for printed, evaluation in evaluations.items():
        streams = {name: _with_modality(plan("r2plus1d", printed), modality) for name, modality in MODALITIES.items()}
        for name, group in _build_stream_groups(config, streams, evaluation, "Two-Stream").items():
            grid[f"R(2+1)D-{name}-{printed}frame"] = group
    return grid


def build_table5_grid(config: StudyConfig) -> Grid:
    """(printed method, pre-training): two streams and their mean, from scratch and after Sports-1M."""
    length, grid = STREAM_LENGTH[config.scale], Grid()
    for pretraining in ("none", SPORTS):
        streams: dict[str, PlannedRun] = {}
        for name, modality in MODALITIES.items():
            if pretraining == "none":
                recipe = f"kinetics400_r2plus1d_34_32f_{modality}"
                run = _plan_recipe(config, config.source, recipe, "r2plus1d", length)
            else:
                # Sports-1M has a recipe for RGB alone; its flow network takes the same one, as in Table 4.
                source = _find_source(config, "sports1m", motion_source(OTHER_MOTIONS))
                start = _plan_recipe(config, source, "sports1m_r2plus1d_34_32f", "r2plus1d", length)
                recipe = f"fine_tuning/kinetics400_r2plus1d_34_32f_{modality}"
                run = _plan_fine_tuning(config, start, config.source, recipe, length=length)
            streams[name] = _with_modality(run, modality)
        groups = _build_stream_groups(config, streams, _build_evaluation(config, length), "Two-Stream")
        grid |= {(f"R(2+1)D-{name}", pretraining): group for name, group in groups.items()}
    return grid


def build_table6_grid(config: StudyConfig) -> Grid:
    """(printed method, pre-training, data set, fold): two streams and their mean, fine-tuned on three splits of two data sets.

    At laptop scale the data sets are motions of few videos, drawn three times in place of three splits; the pre-training is on
    the study's own motions, and a start from scratch stands in for the weaker one. The test split is evaluated at either scale.
    """
    evaluation = replace(_build_evaluation(config, STREAM_LENGTH[config.scale]), split="test")
    return {
        (f"R(2+1)D-{name}", pretraining, target, fold): group
        for target in TARGETS
        for fold in FOLDS
        for pretraining in (KINETICS, SPORTS)
        for name, group in _build_stream_groups(
            config, _plan_transfers(config, target, fold, pretraining), evaluation, "TwoStream"
        ).items()
    }


def build_figure3_grid(config: StudyConfig) -> Grid:
    """(family, depth): two networks at two depths."""
    return {
        (family, depth): _group(config, _plan_from_scratch(config, family, FIGURE_LENGTH, depth))
        for depth in DEPTHS[config.scale]
        for family in ("r3d", "r2plus1d")
    }


def build_figure5_grid(config: StudyConfig) -> Grid:
    """("length", frames) of Figure 5a: a training each; ("clips", number) of Figure 5b: one network."""
    grid: Grid = {
        ("length", length): _group(config, _plan_from_scratch(config, "r2plus1d", length))
        for length in FIGURE5_LENGTHS[config.scale]
    }
    length = FIGURE5_AVERAGED_LENGTH[config.scale]
    averaged = _plan_from_scratch(config, "r2plus1d", length)
    for num_clips in FIGURE5_CLIPS[config.scale]:
        grid["clips", num_clips] = _group(config, averaged, _build_evaluation(config, length, num_clips))
    return grid


def build_figure6_grid(config: StudyConfig) -> Grid:
    """ "r2plus1d": Table 2's network, whose weights are read."""
    return {"r2plus1d": _group(config, _plan_from_scratch(config, "r2plus1d", FIGURE_LENGTH))}


def build_decomposition_grid(config: StudyConfig) -> Grid:
    """Name of a variant: R3D, R(2+1)D, and R(2+1)D with one thing changed; the first two are Table 2's."""
    full, factorised = (_plan_from_scratch(config, family, FIGURE_LENGTH) for family in ("r3d", "r2plus1d"))
    network = factorised.settings.network
    stem = compute_stem_mid_channels(factorised.settings)
    variants: dict[Hashable, NetworkSettings] = {
        "R(2+1)D as in the paper": network,
        "R(2+1)D, mid-channels per block": replace(network, mid_channel_rule="per_block"),
        "R(2+1)D, the rule in the stem too": replace(network, stem_mid_channels=stem),
        "R(2+1)D, no ReLU between the halves": replace(network, middle_relu=False),
    }
    return {"R3D": _group(config, full)} | {
        name: _group(config, replace(factorised, settings=replace(factorised.settings, network=variant)))
        for name, variant in variants.items()
    }


def _plan_from_scratch(config: StudyConfig, family: str, length: int, depth: int | None = None) -> PlannedRun:
    """One network on the study's data, seed 0; `depth` is the shallower one of the scale by default."""
    model = f"{family}_{depth or DEPTHS[config.scale][0]}"
    if config.scale == "laptop":
        return PlannedRun(build_laptop_settings(model, length), config.source)
    # Where the paper prints no recipe (24, 40, 48 frames; 34 layers), the nearest one with this one thing changed.
    recipe_length = length if length in RECIPE_LENGTHS.get(family, TABLE2_LENGTHS) else 16
    settings = load_recipe(f"kinetics400_{family}_18_{recipe_length}f")
    return PlannedRun(
        replace(settings, model=model, clips=replace(settings.clips, length=length)),
        config.source,
    )


def _plan_fine_tuning(
    config: StudyConfig, start: PlannedRun, source: DataSource, recipe: str, *, length: int
) -> PlannedRun:
    """A run that starts from the last weights of `start`; `recipe` is used at paper scale."""
    if config.scale == "paper":
        return PlannedRun(load_recipe(recipe), source, start=start)
    settings, training = start.settings, start.settings.training
    epochs = training.epochs * FINE_TUNING_SHARE
    training = replace(
        training,
        epochs=epochs,
        learning_rate=training.learning_rate * FINE_TUNING_RATE,
        warmup_epochs=0.0,
        validate_every_epochs=epochs,
    )
    clips = replace(settings.clips, length=length)
    return PlannedRun(replace(settings, clips=clips, training=training), source, start=start)


def _build_evaluation(config: StudyConfig, length: int, num_clips: int | None = None) -> EvaluationSpec:
    """The paper's protocol: uniform centre-crop clips, by default as many as usual at the scale."""
    return EvaluationSpec(CLIPS[config.scale] if num_clips is None else num_clips, length, config.split)


def _with_modality(run: PlannedRun, modality: Modality) -> PlannedRun:
    """The same run and its starts on RGB (three channels) or optical flow (two)."""
    start = None if run.start is None else _with_modality(run.start, modality)
    return replace(run, settings=replace(run.settings, modality=modality), start=start)


def _find_source(config: StudyConfig, name: str, laptop_source: DataSource) -> DataSource:
    """A further data set: as given by --others, else `laptop_source`. ValueError at paper scale."""
    if name in config.others:
        return config.others[name]
    if config.scale == "paper":
        raise ValueError(f"this study at paper scale needs {name} too; add --others {name}=DATA, or use --scale laptop")
    return laptop_source


def compute_stem_mid_channels(settings: TrainSettings) -> int:
    """Mid-channels of the stem by the paper's rule for its filters of 3x7x7: 83 at width 64, where the paper has 45."""
    return compute_mid_channels(settings.preprocessing.input_channels, settings.network.width, t=3, d=7)


def count_classes(config: StudyConfig) -> int:
    """Classes of the study's data, for counting multiply-adds; 400 for data that is not generated."""
    motions = config.source.motions
    return 400 if motions is None else len(motions.class_names)


def _group(config: StudyConfig, run: PlannedRun, evaluation: EvaluationSpec | None = None) -> RunGroup:
    """The run with every seed of the study; evaluated by default with clips of its own length."""
    return RunGroup(with_seeds(run, config.seeds), evaluation or _build_evaluation(config, run.settings.clips.length))


def _plan_recipe(config: StudyConfig, source: DataSource, recipe: str, family: str, length: int) -> PlannedRun:
    """A recipe at paper scale; at laptop scale a network of the family."""
    if config.scale == "paper":
        return PlannedRun(load_recipe(recipe), source)
    return PlannedRun(build_laptop_settings(f"{family}_{DEPTHS['laptop'][0]}", length), source)


def _build_stream_groups(
    config: StudyConfig, streams: dict[str, PlannedRun], evaluation: EvaluationSpec, fused_name: str
) -> dict[str, RunGroup]:
    """The streams by name, and under `fused_name` the mean of their scores, seed by seed with equal weights."""
    groups = {name: _group(config, run, evaluation) for name, run in streams.items()}
    pairs = zip(*(with_seeds(run, config.seeds) for run in streams.values()), strict=True)
    return groups | {fused_name: RunGroup(tuple(FusedRun(pair, evaluation) for pair in pairs), evaluation)}


def _plan_transfers(config: StudyConfig, target: str, fold: int, pretraining: str) -> dict[str, PlannedRun]:
    """Both streams of Table 6, pre-trained and fine-tuned on one fold of a data set."""
    length = STREAM_LENGTH[config.scale]
    source = _find_source(config, target, motion_source(TARGET_MOTIONS[target]))
    if source.motions is not None:
        source = motion_source(replace(source.motions, seed=10 + fold))
    start_source = config.source
    if pretraining == SPORTS and config.scale == "paper":
        start_source = _find_source(config, "sports1m", config.source)
    runs = {}
    for name, modality in MODALITIES.items():
        recipe = f"kinetics400_r2plus1d_34_32f_{modality}" if pretraining == KINETICS else "sports1m_r2plus1d_34_32f"
        start = _with_modality(_plan_recipe(config, start_source, recipe, "r2plus1d", length), modality)
        run = _plan_fine_tuning(
            config, start, source, f"fine_tuning/{target}_r2plus1d_34_32f_{modality}", length=length
        )
        if config.scale == "laptop" and pretraining == SPORTS:
            run = replace(run, start=None)  # the same recipe without the pre-training
        runs[name] = replace(run, settings=replace(run.settings, fold=None if source.motions is not None else fold))
    return runs
