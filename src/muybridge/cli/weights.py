"""`muybridge weights`: bring weights in, and read their card."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from muybridge.cli.options import verb_parser

EXAMPLES = (
    "muybridge weights import network.pt -o network.safetensors --classes names.txt",
    "muybridge weights show network.safetensors",
)


def run(words: Sequence[str]) -> int:
    """`import` or `show`."""
    match list(words):
        case ["import", *rest]:
            return import_file(rest)
        case ["show", *rest]:
            return show(rest)
        case _:
            verb_parser("weights", "import|show ...", "Brings weights in; prints their card.", EXAMPLES).print_help()
            return 0 if words and words[0] in ("-h", "--help") else 2


def import_file(words: Sequence[str]) -> int:
    """Recognises a state dict and writes it with a card; prints what was found and what was assumed."""
    parser = verb_parser("weights import", "FILE -o NAME.safetensors [OPTIONS]", "Recognises a network.", EXAMPLES[:1])
    parser.add_argument("file", help="a state dict with torchvision's names: .pt, .pth or .safetensors")
    parser.add_argument("-o", "--output", required=True, help="the .safetensors file to write")
    parser.add_argument("--classes", help="a text file with a class name a line, in the order of the outputs")
    parser.add_argument("--norm_epsilon", type=float, help="of batch norm; a state dict does not show it")
    parser.add_argument("--stem_pool", action="store_true", help="the network has a max-pool after its stem")
    parser.add_argument("--source", help="where the weights come from, for the card")
    parser.add_argument("--licence", default="unknown", help="under what licence they are, for the card")
    found = parser.parse_args(list(words))

    from muybridge.weights.state_dict import ImportOptions, import_weights

    options = ImportOptions(
        classes=Path(found.classes) if found.classes else None,
        norm_epsilon=found.norm_epsilon,
        stem_pool=found.stem_pool,
        source=found.source,
        licence=found.licence,
    )
    imported = import_weights(found.file, found.output, options)
    specification = imported.card.specification
    print(f"{specification.name}, width {specification.width}, {specification.num_classes} classes, in {found.output}")
    for assumption in imported.assumptions:
        print(f"assumed: {assumption}", file=sys.stderr)
    return 0


def show(words: Sequence[str]) -> int:
    """Prints the card of weights as JSON."""
    parser = verb_parser("weights show", "RUN|FILE.safetensors", "Prints the card of weights.", EXAMPLES[1:])
    parser.add_argument("run", help="a run folder or a .safetensors file")
    found = parser.parse_args(list(words))

    from muybridge.weights.card import load_card, weights_file

    print(json.dumps(load_card(weights_file(found.run)).to_json(), indent=2))
    return 0
