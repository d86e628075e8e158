"""Table 3: R(2+1)D, the length of clips in training, fine-tuning and testing.

Claim (section 4.3): a network trained on short clips loses when it is merely tested on long ones; trained on long clips it
is best; fine-tuned on long clips after short ones it comes close, in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.studies.intervals import Estimate, difference, estimate
from muybridge.studies.paper import TABLE3, Table3Row
from muybridge.studies.plan import Run, Scoring
from muybridge.studies.recipe import recipe
from muybridge.studies.scales import fine_tuned, from_scratch, seeds, uniform
from muybridge.studies.study import (
    SCALE_NOTES,
    Cell,
    Results,
    Setting,
    Study,
    Table,
    Told,
    Verdict,
    cell,
    compared,
    concluded,
)

LENGTHS = {"paper": {8: 8, 32: 32}, "laptop": {8: 8, 32: 24}}  # the paper's lengths, and ours in their place
CLAIM = (
    "Testing with longer clips than trained with loses accuracy; training with long clips is best; fine-tuning with long clips "
    "after training with short ones comes close to it, in less time."
)
Line = tuple[Table3Row, list[Run], Scoring]


def lines(setting: Setting) -> list[Line]:
    """The rows of the table: as printed, our runs, their test."""
    ours = LENGTHS[setting.scale]
    found: list[Line] = []
    for printed in TABLE3:
        run = from_scratch(setting, "r2plus1d", ours[printed.train])
        if printed.finetune is not None:
            paper = recipe("fine_tuning/kinetics400_r2plus1d_18_32f_from_8f") if setting.scale == "paper" else None
            run = fine_tuned(setting, run, length=ours[printed.finetune], source=setting.source, paper=paper)
        found.append((printed, seeds(setting, run), uniform(setting, ours[printed.test])))
    return found


def runs(setting: Setting) -> list[Run]:
    """Three trainings; the first is tested twice."""
    return [with_test(run, test) for _, members, test in lines(setting) for run in members]


def with_test(run: Run, test: Scoring) -> Run:
    """A run that is asked for one test."""
    return Run(run.settings, run.source, (test,), run.start)


def tell(setting: Setting, results: Results) -> Told:
    """Ours beside the paper's."""
    rows: list[tuple[Cell, ...]] = []
    ours = LENGTHS[setting.scale]
    for printed, members, test in lines(setting):
        finetune = "none" if printed.finetune is None else str(ours[printed.finetune])
        rows.append(
            (
                f"{ours[printed.train]} / {finetune} / {test.length}",
                cell(results.estimate(members, test, "clip_top1")),
                printed.clip_top1,
                cell(results.estimate(members, test)),
                printed.video_top1,
                seconds(results, members, test),
                printed.train_hours,
            )
        )
    columns = (
        "frames in training / fine-tuning / test",
        "clip@1, ours",
        "clip@1, paper",
        "video@1, ours",
        "video@1, paper",
        "seconds of training, ours",
        "hours on 64 GPUs, paper",
    )
    note = (
        f"{SCALE_NOTES[setting.scale]}; the paper's long clips have 32 frames; time is that of the last stage, as the paper's "
        "20.5 hours seem to be"
    )
    return Told(verdict(setting, results), (Table("Table 3, R(2+1)D", columns, tuple(rows), note),))


def seconds(results: Results, members: Sequence[Run], test: Scoring) -> Cell:
    """The mean time of the last stage of training: the processor's, or a GPU's by the clock. Interrupted runs do not count."""
    found = [row["training"] for row in (results.row(run, test) for run in members) if row is not None]
    whole = [training for training in found if not training.get("goes_on")]
    times = estimate(
        [training["processor_seconds" if training["device"] == "cpu" else "seconds"] for training in whole]
    )
    return None if times is None else round(times.mean)


def verdict(setting: Setting, results: Results) -> Verdict:
    """The rows against each other."""
    of = [results.by_seed(members, test) for _, members, test in lines(setting)]
    short, stretched, long, tuned = of
    return concluded(
        [
            compared("trained and tested short above tested long", difference(short, stretched)),
            compared("trained long above trained short", difference(long, short)),
            compared("fine-tuned long above only tested long", difference(tuned, stretched)),
            ("fine-tuned within 2 points of trained long" + told(gap := difference(long, tuned)), within(gap, 2.0)),
        ]
    )


def told(gap: Estimate | None) -> str:
    """How far, in words."""
    return " (not run)" if gap is None else f" (behind by {gap.text()})"


def within(gap: Estimate | None, points: float) -> bool | None:
    """Whether a gap is at most so many points: undecided where the interval has both."""
    if gap is None or gap.low is None or gap.high is None:
        return None
    return True if gap.high <= points else False if gap.low > points else None


STUDY = Study("table3", "Table 3: clip length in training, fine-tuning and test", CLAIM, runs, tell)
