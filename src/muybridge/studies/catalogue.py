"""The studies by name."""

from __future__ import annotations

from muybridge.studies import table2
from muybridge.studies.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (table2.STUDY,)}
