"""The studies by name."""

from __future__ import annotations

from muybridge.studies import (
    decomposition,
    figure3,
    figure4,
    figure5,
    figure6,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
)
from muybridge.studies.study import Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        *(table1, table2, table3, table4, table5, table6),
        *(figure3, figure4, figure5, figure6, decomposition),
    )
}
