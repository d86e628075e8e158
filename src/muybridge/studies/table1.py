"""Table 1: the layers of R3D and their output sizes, at 18 and 34 layers. Counted, not trained.

Claim: five groups of residual blocks whose first convolutions of conv3, conv4 and conv5 halve time, height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from muybridge.models.cost import LayerCost, cost
from muybridge.models.network import create_model
from muybridge.studies.paper import TABLE1, TABLE2, Table1Row
from muybridge.studies.plan import Run
from muybridge.studies.study import Cell, Results, Setting, Study, Table, Told, Verdict

LENGTH, CROP = 16, 112
DEPTHS = (18, 34)
PARTS = {"conv1": "stem", "conv2_x": "layer1", "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}
CLAIM = (
    "R3D of 18 and of 34 layers has the groups, filters and output sizes of the paper's Table 1 for clips of "
    f"{LENGTH}x{CROP}x{CROP}, and every network of Table 2 the number of parameters printed there."
)


@dataclass(frozen=True)
class Group:
    """What a group of a network has."""

    output: tuple[int, ...]  # channels, time, height, width
    kernel: tuple[int, ...]
    num_blocks: int
    multiply_adds: int

    def matches(self, printed: Table1Row, depth: int) -> bool:
        """Whether it is the paper's."""
        size = (printed.channels, int(LENGTH * printed.output_share), printed.output_size, printed.output_size)
        blocks = printed.blocks_18 if depth == DEPTHS[0] else printed.blocks_34
        return (self.output, self.kernel, self.num_blocks) == (size, printed.kernel, blocks)


def runs(setting: Setting) -> list[Run]:
    """None."""
    return []


def groups(depth: int) -> dict[str, Group]:
    """The groups of R3D by the paper's names."""
    with torch.device("meta"):
        network = create_model(f"r3d_{depth}", clip_length=LENGTH)
    layers = cost(network, (3, LENGTH, CROP, CROP)).layers
    found = {}
    for name, part in PARTS.items():
        own = [layer for layer in layers if layer.name.startswith(f"{part}.")]
        main = [layer for layer in own if "downsample" not in layer.name]
        blocks = {layer.name.split(".")[1] for layer in main}
        found[name] = Group(main[-1].output_cthw, main[-1].kernel, len(blocks), total(own))
    return found


def total(layers: list[LayerCost]) -> int:
    """Multiply-adds of some layers."""
    return sum(layer.multiply_adds for layer in layers)


def tell(setting: Setting, results: Results) -> Told:
    """Sizes with the paper's beside, and the parameters."""
    of = {depth: groups(depth) for depth in DEPTHS}
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE1:
        shallow, deep = (of[depth][printed.group] for depth in DEPTHS)
        theirs = (printed.channels, int(LENGTH * printed.output_share), printed.output_size, printed.output_size)
        rows.append(
            (
                printed.group,
                times(shallow.output),
                times(theirs),
                times(shallow.kernel),
                f"{shallow.num_blocks}, {deep.num_blocks}",
                f"{printed.blocks_18}, {printed.blocks_34}",
                round(shallow.multiply_adds / 1e9, 3),
                round(deep.multiply_adds / 1e9, 3),
            )
        )
    columns = (
        "group",
        "output, ours (channels x time x height x width)",
        "output, paper",
        "filters",
        "blocks at 18 and 34 layers, ours",
        "blocks, paper",
        "10^9 multiply-adds, 18 layers",
        "34 layers",
    )
    sizes = Table(f"Table 1, clips of {LENGTH}x{CROP}x{CROP}", columns, tuple(rows))
    counted = parameters()
    note = (
        "weights of convolutions and classifier, 400 classes, R2D for 8 frames; MC5's printed 16.9 cannot be reached by any "
        "way of counting that gives the other rows"
    )
    table = Table("Parameters in millions", ("network", "ours", "paper (Table 2)"), counted, note)
    return Told(verdict(of, counted), (sizes, table))


def times(sizes: tuple[int, ...]) -> str:
    """`64 x 16 x 56 x 56`."""
    return " x ".join(map(str, sizes))


def parameters() -> tuple[tuple[Cell, ...], ...]:
    """Every network of Table 2: counted and printed."""
    found: list[tuple[Cell, ...]] = []
    for printed in TABLE2:
        with torch.device("meta"):
            network = create_model(f"{printed.family}_18", clip_length=8)
        found.append(
            (printed.family, round(cost(network, (3, 8, CROP, CROP)).weights / 1e6, 1), printed.parameters_millions)
        )
    return tuple(found)


def verdict(of: dict[int, dict[str, Group]], counted: tuple[tuple[Cell, ...], ...]) -> Verdict:
    """Whether every size and every count is the printed one."""
    wrong = [
        f"{printed.group} at {depth} layers"
        for depth in DEPTHS
        for printed in TABLE1
        if not of[depth][printed.group].matches(printed, depth)
    ]
    off = [f"{name} has {ours} million parameters, printed {paper}" for name, ours, paper in counted if ours != paper]
    sizes = f"sizes differ in {', '.join(wrong)}" if wrong else "all groups, filters and sizes are the printed ones"
    counts = "; ".join(off) if off else "all parameters are the printed ones"
    return Verdict(f"{sizes.capitalize()}; {counts}.", not wrong and not off)


STUDY = Study("table1", "Table 1: layers and sizes", CLAIM, runs, tell)
