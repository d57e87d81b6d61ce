"""What a reader is: instrument files -> Run, Particles, vignettes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from plankter.types import Flag, ImportedLabel, Particles, Run, Vignette


@dataclass(frozen=True)
class RunSource:
    """One run found on disk: ``path`` is its identity file (the FlowCam list), ``origin`` what the user named."""

    reader: str
    path: Path
    origin: str


@dataclass(frozen=True)
class ReadRun:
    """All that a reader says of a run but the pixels. ``problems`` are for `plankter doctor`; what concerns the
    data is also in ``run.flags``. ``fringe_px`` is the instrument's fringe correction (0 where it has none)."""

    run: Run
    particles: Particles
    labels: tuple[ImportedLabel, ...] = ()
    problems: tuple[Flag, ...] = ()
    fringe_px: float = 0.0
    has_masks: bool = False
    notes: str | None = None


class Reader(Protocol):
    """An entry point of ``plankter.readers``: a class without arguments."""

    name: str

    def can_read(self, path: Path) -> str | None:
        """None where ``path`` (a file) is the identity file of a run of this reader, else in one sentence why not."""
        ...

    def read(self, source: RunSource) -> ReadRun:
        """The run and its particles, labels included; no pixels are decoded.

        Raises:
            ReadError: the list cannot be read as what it should be; says which file and row.
        """
        ...

    def vignettes(self, source: RunSource, particles: Particles) -> Iterator[Vignette]:
        """One `Vignette` a particle, in order; a damaged one carries ``failure`` and never stops the rest."""
        ...


@dataclass(frozen=True)
class Portion:
    """Neighbouring particles whose pixels can be read apart from the others, in another process too.

    Attributes:
        start: first particle.
        stop: one past the last.
        facts: what the reader needs to know of them: texts, numbers, None, lists and dicts, as JSON has them.
    """

    start: int
    stop: int
    facts: Mapping[str, Any]


@runtime_checkable
class PortionReader(Reader, Protocol):
    """A reader whose pixels can be read in portions; `Reader.vignettes` gives the same in one go."""

    def portions(self, source: RunSource, particles: Particles) -> list[Portion] | None:
        """All particles of a run in portions of at most a few hundred, in order; None where that would be slower."""
        ...

    def portion_vignettes(self, portion: Portion) -> list[Vignette]:
        """The vignettes of one portion, in order; needs no call of `read` or `portions` on the same object before."""
        ...
