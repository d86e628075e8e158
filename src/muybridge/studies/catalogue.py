"""The studies: a row each of name, title, claim, grid, verdict, tables, charts and images."""

from __future__ import annotations

from collections.abc import Hashable

from muybridge.studies import charts, claims, grids, stem_filters, tables
from muybridge.studies.laptop import STREAM_MOTIONS
from muybridge.studies.paper import FIGURE4_GAIN, FIGURE5B_LOSS
from muybridge.studies.study import Grid, Study


def _list_compared_pair(grid: Grid) -> tuple[Hashable, ...]:
    """The cells of R3D and R(2+1)D, which the paper compares: they are rerun for the noise floor."""
    return tuple(key for key, group in grid.items() if group.settings.model.startswith(("r3d_", "r2plus1d_")))


def _list_first_two(grid: Grid) -> tuple[Hashable, ...]:
    return tuple(grid)[:2]


def _list_none(grid: Grid) -> tuple[Hashable, ...]:
    return ()


_STUDIES = (
    Study(
        "table1",
        "Table 1: layers and sizes",
        "R3D of 18 and of 34 layers has the groups, filters and output sizes of the paper's Table 1 for clips of 16x112x112, "
        "and every network of Table 2 the number of parameters printed there.",
        grids.build_empty_grid,
        claims.judge_table1,
        tables.make_table1,
    ),
    Study(
        "table2",
        "Table 2: twelve networks, clips of 8 and 16 frames",
        "With the same recipe, networks that see motion (R3D, MCx, rMCx, R(2+1)D) are more accurate than those of 2-D "
        "convolutions (R2D, f-R2D); mixed convolutions MCx are more accurate than R3D with fewer parameters; R(2+1)D is the "
        "most accurate.",
        grids.build_table2_grid,
        claims.judge_table2,
        tables.make_table2,
        noisy=_list_compared_pair,
    ),
    Study(
        "table3",
        "Table 3: clip length in training, fine-tuning and test",
        "Testing with longer clips than trained with loses accuracy; training with long clips is best; fine-tuning with long "
        "clips after training with short ones comes close to it, in less time.",
        grids.build_table3_grid,
        claims.judge_table3,
        tables.make_table3,
    ),
    Study(
        "table4",
        "Table 4: Sports-1M",
        "R(2+1)D is more accurate than R3D from the same recipe; longer clips are better than shorter ones; RGB is better than "
        "optical flow; the mean of both streams is better than either.",
        grids.build_table4_grid,
        claims.judge_table4,
        tables.make_table4,
        motions=STREAM_MOTIONS,
    ),
    Study(
        "table5",
        "Table 5: Kinetics, two streams, with and without pre-training",
        "Pre-training on another, larger set of videos raises the accuracy of both streams; the mean of both beats either.",
        grids.build_table5_grid,
        claims.judge_table5,
        tables.make_table5,
        motions=STREAM_MOTIONS,
    ),
    Study(
        "table6",
        "Table 6: transfer to UCF101 and HMDB51",
        "What was learnt on Kinetics transfers: fine-tuned on UCF101 and HMDB51 it is more accurate than after Sports-1M; the "
        "mean of both streams is better than either.",
        grids.build_table6_grid,
        claims.judge_table6,
        tables.make_table6,
        motions=STREAM_MOTIONS,
    ),
    Study(
        "figure3",
        "Figure 3: training and validation error by epoch",
        "R(2+1)D has a lower training error than R3D of the same depth, not only a lower validation error: it is easier to "
        "optimise. The difference is larger in the deeper network.",
        grids.build_figure3_grid,
        claims.judge_figure3,
        tables.make_figure3_table,
        charts.draw_figure3,
        noisy=_list_compared_pair,
    ),
    Study(
        "figure4",
        "Figure 4: accuracy against multiply-adds",
        f"R(2+1)D gains over R3D ({FIGURE4_GAIN[0]:g} to {FIGURE4_GAIN[1]:g} points of video@1 in the paper) at about the same "
        "multiply-adds, and no network of the family is both cheaper and more accurate.",
        grids.build_table2_grid,
        claims.judge_figure4,
        tables.make_figure4_tables,
        charts.draw_figure4,
        noisy=_list_compared_pair,
    ),
    Study(
        "figure5",
        "Figure 5: length and number of clips",
        "The longer the clips trained and tested with, the higher clip accuracy, while video accuracy peaks before the "
        f"longest. Averaging a fifth of the clips loses about {FIGURE5B_LOSS} points of video accuracy.",
        grids.build_figure5_grid,
        claims.judge_figure5,
        tables.make_figure5_tables,
        charts.draw_figure5,
    ),
    Study(
        "figure6",
        "Figure 6: filters of the R(2+1)D stem",
        "The stem's temporal filters compare frames: more of their energy is change over time than of random filters. Whether "
        "its spatial filters look like those of a 2-D network is for eyes: see the pictures.",
        grids.build_figure6_grid,
        claims.judge_figure6,
        tables.make_figure6_table,
        images=stem_filters.render_filter_images,
        noisy=_list_none,
    ),
    Study(  # beyond the paper
        "decomposition",
        "Decomposition: which part of R(2+1)D helps",
        "Both of the paper's reasons for R(2+1)D hold by themselves: factorised filters without a ReLU between the halves are "
        "more accurate than R3D, and the ReLU adds to that. The number of channels between the halves matters less.",
        grids.build_decomposition_grid,
        claims.judge_decomposition,
        tables.make_decomposition_table,
        noisy=_list_first_two,
    ),
)
STUDIES = {study.name: study for study in _STUDIES}
