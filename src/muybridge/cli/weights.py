"""`muybridge weights`: imports weights, exports them, and shows their card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from muybridge.bounds import ClipLength, FrameStep, NormEpsilon
from muybridge.cli.output import print_json
from muybridge.files.atomic import check_not_input
from muybridge.records import Checkpoint, Task
from muybridge.terminal import print_line
from muybridge.text import format_count


@dataclass(frozen=True)
class ImportArguments:
    """what the file does not say"""

    source: Literal["torchvision", "ig65m", "vmz", "muybridge"] | None = None
    """Where the file comes from: decides epsilon, and the frame rate where the names of its tensors do not."""
    classes: str | None = None
    """A text file with one class name a line, in the order of the outputs."""
    task: Task | None = None
    """What the outputs are (default: as EchoNet-Dynamic's checkpoints say, else single_label): logits of classes, of classes
    by themselves (multi_label), numbers (regression), or boundaries between levels (ordinal)."""
    targets: list[str] | None = None
    """With --task regression: the names of the numbers, such as EF."""
    units: list[str] | None = None
    """With --task regression: their units, such as ml."""
    target_mean: list[Annotated[float, Interval(ge=-1e8, le=1e8)]] | None = None
    """With --task regression: the means that the outputs are relative to (default: the outputs are the numbers)."""
    target_std: list[Annotated[float, Interval(gt=0, le=1e8)]] | None = None
    """With --task regression: the deviations that the outputs are relative to."""
    clip_length: ClipLength | None = None
    """Frames in a clip; only the weights of R2D show it, and are for no other."""
    frame_stride: FrameStep | None = None
    """Take every n-th frame."""
    norm_epsilon: NormEpsilon | None = None
    """Epsilon of batch norm, where that of --source does not fit."""
    stem_pool: bool = False
    """There is a max-pool after the stem."""
    network: str | None = None
    """The prefix of the network where the file has several, such as ema.module, or 'the top level'."""
    head: str | None = None
    """The classifier where the file has several, such as fc_verb; none leaves it out."""
    licence: str = "unknown"
    """The licence of the weights, for the card."""


def import_(file: str, *, output: str, assumptions: ImportArguments) -> int:
    """Recognises the network of a file of weights and writes it with a card.

    Args:
        file: A state dict (.pt, .pth, .safetensors) or a Caffe2 pickle of VMZ (.pkl).
        output: The .safetensors file to write.

    Examples:
        muybridge weights import r2plus1d_18-91a641e6.pth --source torchvision -o network.safetensors
        muybridge weights import r2.5d_d34_l32.pkl --clip-length 32 -o network.safetensors
        muybridge weights import r2plus1d_18_32_2_pretrained.pt -o ejection_fraction.safetensors
        muybridge weights import pain.pth --task regression --targets score -o pain.safetensors
    """
    from muybridge.weights.importing import ImportOptions, import_weights
    from muybridge.weights.task_heads import ImportedTask

    if assumptions.targets and (assumptions.task != "regression" or assumptions.classes):
        raise ValueError("--targets names the numbers of --task regression; name classes and levels with --classes")
    options = ImportOptions(
        source=assumptions.source,
        classes=Path(assumptions.classes) if assumptions.classes else assumptions.targets,
        task=ImportedTask(
            assumptions.task,
            tuple(assumptions.units or ()),
            tuple(assumptions.target_mean or ()),
            tuple(assumptions.target_std or ()),
        ),
        clip_length=assumptions.clip_length,
        frame_stride=assumptions.frame_stride,
        norm_epsilon=assumptions.norm_epsilon,
        stem_pool=assumptions.stem_pool or None,
        network=assumptions.network,
        head=assumptions.head,
        licence=assumptions.licence,
    )
    check_not_input(Path(output), [file, assumptions.classes])
    imported = import_weights(file, output, options)
    spec = imported.card.specification
    rule = f", mid-channels {spec.mid_channel_rule.replace('_', ' ')}" if spec.name.startswith("r2plus1d") else ""
    noun = "output" if imported.card.head else "class"
    classes = format_count(spec.num_classes, noun) if imported.card.has_classifier else "no classifier"
    print_line(
        f"{imported.format}: {spec.name}, width {spec.width}, {classes}{rule}, "
        f"epsilon {spec.norm_epsilon:g}; written to {output}"
    )
    for assumption in imported.assumptions:
        print_line(f"assumed: {assumption}", error=True)
    if imported.left_out:
        print_line(f"left out: {'; '.join(imported.left_out)}", error=True)
    return 0


def export(
    run: str,
    *,
    to: Literal["onnx", "torchvision", "torch-export", "state-dict"],
    output: str,
    two_dimensional: bool = False,
    checkpoint: Checkpoint | None = None,
) -> int:
    """Writes a network in another format and compares its outputs with the original's.

    Args:
        run: A run folder, a .safetensors file, or a catalogue name.
        to: The format to write.
        output: The file to write: .onnx, .pth or .pt2.
        checkpoint: Which weights of a run folder: best, chosen by its validation videos, or last (default: best, if any).
        two_dimensional: Use 2-D convolutions only, for runtimes without 3-D ones (onnx, torch-export).

    Examples:
        muybridge weights export runs/first --to onnx -o first.onnx
        muybridge weights export runs/first --to torch-export --two-dimensional -o first.pt2
    """
    from muybridge.inference.export import export_weights
    from muybridge.weights.address import select_checkpoint

    address = select_checkpoint(run, checkpoint)
    check_not_input(Path(output), [address])
    exported = export_weights(address, output, export_format=to, two_dimensional=two_dimensional)
    print_line(
        f"{exported.file}: outputs differ from ours by at most {exported.largest_difference:.1e} where the largest is "
        f"{exported.largest_output:.3g}; card and labels in {exported.json_file}"
    )
    for note in exported.notes:
        print_line(note)
    return 0


def show(run: str | None = None) -> int:
    """Prints the card of weights as JSON, or lists the catalogue of public weights.

    Args:
        run: A run folder, a .safetensors file, or a catalogue name.

    Examples:
        muybridge weights show runs/first
        muybridge weights show
    """
    from muybridge.weights.address import resolve_weights_file
    from muybridge.weights.card import load_card
    from muybridge.weights.catalogue import ENTRIES, find_entry
    from muybridge.weights.download import resolve_cached_path

    if run is None:
        for entry in ENTRIES:
            print_line(f"{entry.name:<46} {entry.published_accuracy or 'for fine-tuning; no accuracy published'}")
        return 0
    public = find_entry(run)
    if public is not None and not Path(run).exists() and not resolve_cached_path(public).exists():
        print_json({**public.to_json(), "fetched": False})
        return 0
    print_json(load_card(resolve_weights_file(run)).to_json())
    return 0


VERBS = {"import": import_, "export": export, "show": show}
