"""The folder of a FlowCam run: which files belong to which list, whatever their case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from plankter._errors import ReadError
from plankter.formats.flowcam_csv import header_of, is_identity_header
from plankter.formats.flowcam_lst import looks_like_list
from plankter.formats.flowcam_text import decode_text
from plankter.types import Flag, Severity

LISTS = (".lst", ".flb")
IMAGES = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")
OF_A_RUN = (*LISTS, ".ctx", ".cla", ".edg", ".csv", ".txt", ".zim", *IMAGES)
HEAD_BYTES = 16_384
_SHARED = re.compile(r"(?:cal_image_|rawfile_)\d+\.\w+$", re.IGNORECASE)


class RunFolder:
    """Finds the files of one run by the name of its list. Only files within the folder itself are ever returned."""

    def __init__(self, identity: Path) -> None:
        self.identity = identity
        self.folder = identity.parent
        self.stem = identity.stem
        try:
            self.names = sorted(entry.name for entry in self.folder.iterdir() if entry.is_file())
        except OSError as error:
            raise ReadError(f"the folder cannot be read: {error.strerror}", path=self.folder) from error
        self._by_lower: dict[str, str] = {}
        for name in self.names:
            self._by_lower.setdefault(name.lower(), name)
        self.lists = [name for name in self.names if PurePath(name).suffix.lower() in LISTS]
        identities = self.lists or [identity.name]
        self.other_stems = [PurePath(name).stem for name in identities if name != identity.name]

    def find(self, name: str | None) -> Path | None:
        """The file of that base name in the folder, in whatever case; None where there is none."""
        if not name:
            return None
        exact = name if name in self.names else self._by_lower.get(name.lower())
        return self.folder / exact if exact else None

    def companion(self, ending: str) -> Path | None:
        """``RUN<ending>``, or the only file with that ending where this is the folder's only list."""
        found = self.find(self.stem + ending)
        if found is None and not self.other_stems:
            others = [name for name in self.names if name.lower().endswith(ending) and name != self.identity.name]
            found = self.folder / others[0] if len(others) == 1 else None
        return found

    def mask(self, collage: str) -> Path | None:
        """The mask collage of a collage: ``NAME_bin.tif`` beside ``NAME.tif``."""
        path = PurePath(collage)
        return self.find(f"{path.stem}_bin{path.suffix}")

    def files(self, collages: Iterable[str]) -> list[str]:
        """Names of all files of the run: its list, what is named after it, what its list names, calibration images."""
        named = {path.name for name in collages for path in (self.find(name), self.mask(name)) if path}
        return [name for name in self.names if name in named or self._belongs(name)]

    def _belongs(self, name: str) -> bool:
        if name == self.identity.name:
            return True
        if name.startswith(".") or PurePath(name).suffix.lower() not in OF_A_RUN:
            return False
        if not self.other_stems or _SHARED.match(name):
            return name not in self.lists
        return _named_after(name, self.stem) and not any(
            len(other) > len(self.stem) and _named_after(name, other) for other in self.other_stems
        ) and name not in self.lists  # fmt: skip


def _named_after(name: str, stem: str) -> bool:
    return name.lower().startswith((f"{stem.lower()}.", f"{stem.lower()}_"))


def read_head(path: Path) -> str:
    """The first few lines as text, '' where the file cannot be read."""
    try:
        with path.open("rb") as file:
            return decode_text(file.read(HEAD_BYTES))
    except OSError:
        return ""


def why_not(path: Path) -> str | None:
    """None where the file identifies a FlowCam run, else in one sentence why it does not."""
    suffix = path.suffix.lower()
    if suffix in LISTS:
        head = read_head(path)
        beside = any(path.with_suffix(ending).exists() for ending in (".ctx", ".edg", ".cla"))
        if looks_like_list(head) or beside or (path.exists() and not head.strip()):
            return None  # what is wrong with it, `read` says with row and expectation
        return f"its first line {head.splitlines()[0][:30]!r} is no version of a FlowCam list ('017' or '013')"
    if suffix == ".csv":
        return _why_not_csv(path)
    if suffix == ".ctx":
        return "the context of a FlowCam run; a run is found by its list (.lst)"
    return "no FlowCam list: expected a file ending in .lst or .flb, or a VisualSpreadsheet 5 or 6 export (.csv)"


def _why_not_csv(path: Path) -> str | None:
    header = header_of(read_head(path))
    if header is None:
        return "its first line is no header of a VisualSpreadsheet export"
    if not is_identity_header(header[0]):
        return "an export of VisualSpreadsheet 4 or older; such a run is found by its list (.lst)"
    if any(other.suffix.lower() in LISTS for other in path.parent.iterdir()):
        return "an export beside a list; the list is read"
    return None


def odd_files(files: Sequence[Path]) -> list[Flag]:
    """Of the files of one folder, those that point at a run which cannot be read: contexts and labels without a list."""
    stems = {path.stem.lower() for path in files if path.suffix.lower() in LISTS}
    has_identity = bool(stems) or any(path.suffix.lower() == ".csv" and why_not(path) is None for path in files)
    flags = []
    for path in files:
        suffix = path.suffix.lower()
        if suffix in LISTS and (reason := why_not(path)):
            flags.append(Flag("left-out", f"left out: {reason}", Severity.WARNING, file=str(path)))
        elif suffix == ".ctx" and not has_identity:
            message = (
                f"no list beside the context {path.name}: expected {path.stem}.lst in the same folder; copy it from the "
                "instrument"
            )
            flags += [Flag("no-list", message, Severity.ERROR, file=str(path)), *_of_context(path)]
    return flags


def _of_context(path: Path) -> list[Flag]:
    from plankter.formats.flowcam_ctx import parse_ctx
    from plankter.formats.flowcam_quantities import quantities

    found = quantities(None, parse_ctx(decode_text(path.read_bytes())), None)
    return [
        Flag(flag.code, flag.message, Severity.WARNING, file=str(path))
        for flag in found.flags
        if flag.code in ("uncalibrated", "volume-unknown")
    ]
