"""The same run at two scales: the paper's printed recipe, or small networks on generated motions that keep every form.

Enter: a `Setting` and what a study wants of a network. Leave: `Run`s and `Scoring`s. Paper scale reads `recipes/`, and says
what it adds to them; laptop scale is `laptop.py`.
"""

from __future__ import annotations

from dataclasses import replace

from muybridge.models.family import compute_mid_channels
from muybridge.records import Modality
from muybridge.settings import TrainSettings
from muybridge.studies.laptop import STUDY_CLIPS, STUDY_DEEPER, STUDY_DEPTH, STUDY_MOTIONS, study_run
from muybridge.studies.plan import Run, Scoring, Source, generated, with_seeds
from muybridge.studies.recipe import recipe
from muybridge.studies.study import Setting
from muybridge.synthetic.motions import CLASS_NAMES

PAPER_CLIPS = 10  # a video, of the paper's protocol
PAPER_DEPTH, PAPER_DEEPER = 18, 34
RECIPE_LENGTHS = {"r2plus1d": (8, 16, 32)}  # of Kinetics at 18 layers; every other family has 8 and 16
FINE_TUNING_SHARE = 15 / 45  # of the epochs from scratch: the paper's fine-tuning
FINE_TUNING_RATE = 0.5  # of the rate from scratch, laptop; the paper's tenth moves a network little in a thousand clips
OTHER_MOTIONS = replace(
    STUDY_MOTIONS, classes=CLASS_NAMES[8:18], seed=1
)  # what is not in STUDY_MOTIONS, to pre-train on


def from_scratch(setting: Setting, family: str, length: int, *, deeper: bool = False) -> Run:
    """One network on the study's data, seed 0, with the test of Table 2."""
    tests = (uniform(setting, length),)
    if setting.scale == "laptop":
        depth = STUDY_DEEPER if deeper else STUDY_DEPTH
        return Run(study_run(f"{family}_{depth}", length), setting.source, tests)
    settings = kinetics(family, length)
    if deeper:  # the paper prints no other recipe for 34 layers
        settings = replace(settings, model=f"{family}_{PAPER_DEEPER}")
    return Run(settings, setting.source, tests)


def kinetics(family: str, length: int) -> TrainSettings:
    """The recipe of an 18-layer network; at a length that has none, that of 16 frames with another length."""
    if length in RECIPE_LENGTHS.get(family, (8, 16)):
        return recipe(f"kinetics400_{family}_{PAPER_DEPTH}_{length}f")
    settings = recipe(f"kinetics400_{family}_{PAPER_DEPTH}_16f")
    return replace(settings, clips=replace(settings.clips, length=length))


def uniform(setting: Setting, length: int, clips: int | None = None) -> Scoring:
    """The test of the paper's protocol: uniform centre-crop clips, by default as many as the scale has."""
    usual = PAPER_CLIPS if setting.scale == "paper" else STUDY_CLIPS
    return Scoring(usual if clips is None else clips, length, setting.split)


def seeds(setting: Setting, run: Run) -> list[Run]:
    """A run once a seed of the study."""
    return with_seeds(run, setting.seeds)


def fine_tuned(setting: Setting, before: Run, *, length: int, source: Source, paper: TrainSettings | None) -> Run:
    """What `before` learnt, taken further; `paper` is the recipe at paper scale."""
    tests = (uniform(setting, length),)
    if setting.scale == "paper":
        assert paper is not None, "a study names its recipe"
        return Run(paper, source, tests, before)
    settings = before.settings
    epochs = settings.training.epochs * FINE_TUNING_SHARE
    training = replace(
        settings.training,
        epochs=epochs,
        learning_rate=settings.training.learning_rate * FINE_TUNING_RATE,
        warmup_epochs=0.0,
        decay_epochs=(0.7 * epochs, 0.9 * epochs),
        validate_every_epochs=epochs,
    )
    clips = replace(settings.clips, length=length)
    return Run(replace(settings, clips=clips, training=training), source, tests, before)


def stream(run: Run, modality: Modality) -> Run:
    """The same run on RGB or on optical flow, two channels in place of three; everything else stays."""
    before = None if run.start is None else stream(run.start, modality)
    return replace(run, settings=replace(run.settings, modality=modality), start=before)


def needed(setting: Setting, name: str, laptop: Source) -> Source:
    """A further data set of a study: as given by --others, else motions at laptop scale; ValueError at paper scale."""
    if name in setting.others:
        return setting.others[name]
    if setting.scale == "paper":
        raise ValueError(f"this study at paper scale needs {name} too; add --others {name}=DATA, or use --scale laptop")
    return laptop


def other_motions(seed: int = 1) -> Source:
    """Motions that the study's own data does not have."""
    return generated(replace(OTHER_MOTIONS, seed=seed))


def rule_stem(settings: TrainSettings) -> int:
    """Mid-channels of the stem by the paper's rule for its filters of 3x7x7: 83 at width 64, where the paper has 45."""
    return compute_mid_channels(settings.preprocessing.input_channels, settings.network.width, t=3, d=7)


def num_classes(setting: Setting) -> int:
    """For counting multiply-adds, in which the classifier hardly matters."""
    motions = setting.source.motions
    return 400 if motions is None else len(motions.class_names)
