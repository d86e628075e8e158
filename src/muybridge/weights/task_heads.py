"""What the outputs of an imported network mean: `weights import --task`, and checkpoints that say it themselves.

EchoNet-Dynamic (Ouyang et al., Nature 2020) trains torchvision's r2plus1d_18 with one output, the ejection fraction in percent
as it is (its bias begins at 55.6), by squared error on videos of 112x112. Its checkpoint is recognised by the entries that its
training loop saves beside `state_dict` (echonet/utils/video.py of echonet/dynamic), of which `frames` and `period` are length
and stride of a clip. Mean and deviation of the pixels are not in it; those here are of the same authors' echonet/strain
(`Vid_to_Strain.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muybridge.models.heads import LINKS, Head, make_ordinal_outputs
from muybridge.records import Preprocessing, Task
from muybridge.weights.card import check_classes

_ECHONET_KEYS = frozenset({"epoch", "state_dict", "period", "frames", "best_loss", "loss", "r2", "opt_dict"})
_ECHONET_MEAN, _ECHONET_STD = (31.834011, 31.95879, 32.082172), (48.866325, 49.137333, 49.361984)
_MAX_FRAMES = 1024


@dataclass(frozen=True)
class TrainedTask:
    """What a checkpoint says about the training of its network."""

    owner: str
    task: Task
    outputs: tuple[str, ...]
    units: tuple[str, ...]
    preprocessing: Preprocessing


def recognize_training(content: object) -> TrainedTask | None:
    """The training that the entries of a checkpoint show, None for others."""
    if not isinstance(content, Mapping) or not {key for key in content if isinstance(key, str)} >= _ECHONET_KEYS:
        return None
    frames, period = content["frames"], content["period"]
    if not all(type(value) is int and 1 <= value <= _MAX_FRAMES for value in (frames, period)):
        return None
    preprocessing = Preprocessing(
        clip_length=frames,
        frame_stride=period,
        scale_height=112,
        scale_width=112,
        crop=112,
        mean=_ECHONET_MEAN,
        std=_ECHONET_STD,
    )
    return TrainedTask("EchoNet-Dynamic", "regression", ("EF",), ("%",), preprocessing)


@dataclass(frozen=True)
class ImportedTask:
    """The task as the options give it. `target_mean` and `target_std` are what the outputs are relative to, if to anything."""

    task: Task | None = None
    units: Sequence[str] = ()
    target_mean: Sequence[float] = ()
    target_std: Sequence[float] = ()

    def make_head(
        self, names: Sequence[str] | None, num_outputs: int, trained: TrainedTask | None
    ) -> tuple[Head | None, tuple[str, ...]]:
        """The head, None for single_label, and the classes of the card; names that are not given are numbers.

        The task is that of the options, else that of the checkpoint. Raises ValueError where names or numbers do not fit.
        """
        task, units = self.task, tuple(self.units)
        if task is None and trained and num_outputs == len(trained.outputs):
            task, units, names = trained.task, units or trained.units, names or trained.outputs
        is_regression = task == "regression"
        if not is_regression and (units or self.target_mean or self.target_std):
            raise ValueError(
                "units and statistics of targets are of a regression; add --task regression, or leave them out"
            )
        num_classes = num_outputs + 1 if task == "ordinal" else num_outputs
        classes = tuple(names or _number_names(task, num_classes))
        check_classes(classes, num_classes)
        if task in (None, "single_label"):
            return None, classes
        head = Head(
            task,
            make_ordinal_outputs(classes) if task == "ordinal" else classes,
            LINKS[task],
            units=units or None,
            target_mean=(tuple(self.target_mean) or (0.0,) * num_outputs) if is_regression else None,
            target_std=(tuple(self.target_std) or (1.0,) * num_outputs) if is_regression else None,
        )
        return head, classes


def _number_names(task: Task | None, num_names: int) -> Sequence[str]:
    """`class_000`, ..., for an ordinal target the numbers of its levels, for a regression `target` or `target_1`, ..."""
    match task:
        case "regression":
            return ["target"] if num_names == 1 else [f"target_{index + 1}" for index in range(num_names)]
        case "ordinal":
            return [str(level) for level in range(num_names)]
        case _:
            digits = max(3, len(str(num_names - 1)))
            return [f"class_{index:0{digits}d}" for index in range(num_names)]


def describe_head(head: Head, trained: TrainedTask | None) -> str:
    """A sentence on what the outputs are taken for."""
    owner = f", as {trained.owner} trains it" if trained else ""
    if head.task != "regression":
        return f"the outputs are those of the task {head.task}{owner}"
    units = [head.get_unit(index) for index in range(len(head.outputs))]
    names = ", ".join(f"{name} in {unit}" if unit else name for name, unit in zip(head.outputs, units, strict=True))
    relative = (
        ""
        if trained or head.known_target_mean
        else ", the numbers as they are (else add --target-mean and --target-std)"
    )
    return f"the outputs are {names}{owner}{relative}"
