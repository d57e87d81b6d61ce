"""Every error plankter raises on purpose.

PlankterError
  x ReadError            an instrument's file cannot be read as what it should be
    - UnsupportedFormat  no reader takes the path
  x StoreError           catalogue or archive
    - Conflict           what is to be stored contradicts what is stored
    - DiskFull           no room; what was half written has been removed
    - NewerWorkspace     written by a later version of plankter
    - NotFound           no such run, sample, class or model
  x ImageError           pixels that cannot or must not be decoded
  x ModelError           a model that cannot be loaded or does not fit
  x SettingsError        plankter.toml or a table of the user's
"""

from __future__ import annotations

from pathlib import Path


class PlankterError(Exception):
    """Base of all. Says which file and row, what was expected, and what to do.

    Args:
        message: what is wrong, and what was expected.
        path: the file concerned.
        row: the line or record in it, counted from 1.
        hint: what the user can do.
    """

    code = "error"

    def __init__(
        self, message: str, *, path: Path | str | None = None, row: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.path, self.row, self.hint = message, str(path) if path else None, row, hint

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}{'' if self.row is None else f', row {self.row}'}: "
        return f"{where}{self.message}{'' if self.hint is None else f' ({self.hint})'}"

    def as_dict(self) -> dict[str, str | int | None]:
        """The object that ``--json`` prints for a command that failed as a whole."""
        return {"code": self.code, "message": self.message, "path": self.path, "row": self.row, "hint": self.hint}


class ReadError(PlankterError):
    """A file that cannot be read as what it should be: missing, damaged, cut off, or with contents that contradict each other."""

    code = "unreadable"


class UnsupportedFormat(ReadError):
    """A file of a kind or version that no reader takes."""

    code = "unsupported_format"


class StoreError(PlankterError):
    """The archive or the catalogue cannot do what was asked."""

    code = "store"


class Conflict(StoreError):
    """What was asked contradicts what is stored; nothing was changed."""

    code = "conflict"


class DiskFull(StoreError):
    """The disk has no room; what was half written has been removed."""

    code = "disk_full"


class NewerWorkspace(StoreError):
    """The workspace was written by a later version of plankter; nothing was changed."""

    code = "newer_workspace"


class NotFound(StoreError):
    """No run, sample, particle or model of this id."""

    code = "not_found"


class ImageError(PlankterError):
    """Pixels that cannot be decoded, or that are over the limits."""

    code = "image"


class ModelError(PlankterError):
    """A model that is missing, damaged, tampered with, or does not fit what it was asked to do."""

    code = "model"


class SettingsError(PlankterError):
    """A setting, option or environment variable with a value that cannot be used."""

    code = "settings"
