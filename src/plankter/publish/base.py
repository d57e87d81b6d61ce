"""What an exporter is: results -> files for others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Exported:
    """What was written: rows by file name, and what the user should know."""

    path: Path
    rows: dict[str, int]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """What a workspace hands to an exporter: tables with the columns that the docs list."""

    particles: pa.Table
    samples: pa.Table
    runs: pa.Table
    facts: dict[str, Any] = field(default_factory=dict)


class Exporter(Protocol):
    """An entry point of ``plankter.exporters``."""

    def export(self, results: Results, to: Path) -> Exported:
        """Writes the results into the folder ``to`` and says which files they are."""
        ...
