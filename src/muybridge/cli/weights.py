"""`muybridge weights`: bring weights in, take them out, and read their card."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muybridge.cli.options import verb_parser

EXAMPLES = (
    "muybridge weights import r2plus1d_18-91a641e6.pth --source torchvision -o network.safetensors",
    "muybridge weights import r2.5d_d34_l32.pkl --clip-length 32 -o network.safetensors",
    "muybridge weights export runs/first --to onnx -o first.onnx",
    "muybridge weights export runs/first --to torch-export --two-dimensional -o first.pt2",
    "muybridge weights show runs/first",
    "muybridge weights show",
)
SOURCES = ("torchvision", "ig65m", "vmz", "muybridge")
TARGETS = ("onnx", "torchvision", "torch-export", "state-dict")


def run(words: Sequence[str]) -> int:
    """`import`, `export` or `show`."""
    match list(words):
        case ["import", *rest]:
            return import_file(rest)
        case ["export", *rest]:
            return export(rest)
        case ["show", *rest]:
            return show(rest)
        case _:
            what = "Brings weights in, takes them out, prints their card or the catalogue of public weights."
            verb_parser("weights", "import|export|show ...", what, EXAMPLES).print_help()
            return 0 if words and words[0] in ("-h", "--help") else 2


def import_file(words: Sequence[str]) -> int:
    """Recognises a file of weights and writes it with a card; prints what was found and what was assumed."""
    parser = verb_parser("weights import", "FILE -o NAME.safetensors [OPTIONS]", "Recognises a network.", EXAMPLES[:2])
    parser.add_argument("file", help="a state dict (.pt, .pth, .safetensors) or a Caffe2 pickle of VMZ (.pkl)")
    parser.add_argument("-o", "--output", required=True, help="the .safetensors file to write")
    parser.add_argument("--source", choices=SOURCES, help="where the file comes from: decides epsilon and frame rate")
    parser.add_argument("--classes", help="a text file with a class name a line, in the order of the outputs")
    parser.add_argument(
        "--clip-length", "--clip_length", type=int, help="frames in a clip; weights show it for R2D alone"
    )
    parser.add_argument(
        "--norm-epsilon", "--norm_epsilon", type=float, help="of batch norm, where --source does not fit"
    )
    parser.add_argument("--stem-pool", "--stem_pool", action="store_true", help="there is a max-pool after the stem")
    parser.add_argument("--licence", default="unknown", help="under what licence they are, for the card")
    return _import(parser.parse_args(list(words)))


def _import(found: Any) -> int:
    from muybridge.weights.importing import ImportOptions, import_weights

    options = ImportOptions(
        source=found.source,
        classes=Path(found.classes) if found.classes else None,
        clip_length=found.clip_length,
        norm_epsilon=found.norm_epsilon,
        stem_pool=found.stem_pool or None,
        licence=found.licence,
    )
    imported = import_weights(found.file, found.output, options)
    told = imported.card.specification
    rule = f", mid-channels {told.mid_channel_rule.replace('_', ' ')}" if told.name.startswith("r2plus1d") else ""
    print(
        f"{imported.format}: {told.name}, width {told.width}, {told.num_classes} classes{rule}, "
        f"epsilon {told.norm_epsilon:g}; written to {found.output}"
    )
    for assumption in imported.assumptions:
        print(f"assumed: {assumption}", file=sys.stderr)
    return 0


def export(words: Sequence[str]) -> int:
    """Writes the network in another format, compares its outputs with ours, and prints by how much they differ."""
    usage = "RUN|FILE|NAME --to FORMAT -o FILE [--two-dimensional]"
    parser = verb_parser("weights export", usage, "Takes a network to production.", EXAMPLES[2:4])
    parser.add_argument("run", help="a run folder, a .safetensors file, or a name of the catalogue")
    parser.add_argument("--to", required=True, choices=TARGETS, help="the format to write")
    parser.add_argument("-o", "--output", required=True, help="the file to write: .onnx, .pth or .pt2")
    parser.add_argument(
        "--two-dimensional",
        "--two_dimensional",
        action="store_true",
        help="2-D convolutions alone, for runtimes that lack 3-D ones (onnx, torch-export)",
    )
    found = parser.parse_args(list(words))

    from muybridge.inference.export import export_weights

    exported = export_weights(found.run, found.output, export_format=found.to, two_dimensional=found.two_dimensional)
    print(
        f"{exported.file}: outputs differ from ours by at most {exported.largest_difference:.1e} where the largest is "
        f"{exported.largest_output:.3g}; card and labels in {exported.json_file}"
    )
    for note in exported.notes:
        print(note)
    return 0


def show(words: Sequence[str]) -> int:
    """Prints the card of weights as JSON; of public weights that were not fetched yet, what is known; or lists those."""
    usage = "[RUN|FILE.safetensors|NAME]"
    parser = verb_parser("weights show", usage, "Prints the card of weights, or the catalogue.", EXAMPLES[4:])
    parser.add_argument("run", nargs="?", help="a run folder, a .safetensors file, or a name of the catalogue")
    found = parser.parse_args(list(words))

    from muybridge.weights.address import resolve_weights_file
    from muybridge.weights.card import load_card
    from muybridge.weights.catalogue import ENTRIES, find_entry
    from muybridge.weights.download import resolve_cached_path

    if found.run is None:
        for entry in ENTRIES:
            print(f"{entry.name:<46} {entry.published_accuracy or 'for fine-tuning; no accuracy published'}")
        return 0
    public = find_entry(found.run)
    if public is not None and not Path(found.run).exists() and not resolve_cached_path(public).exists():
        print(json.dumps({**public.to_json(), "fetched": False}, indent=2))
        return 0
    print(json.dumps(load_card(resolve_weights_file(found.run)).to_json(), indent=2))
    return 0
