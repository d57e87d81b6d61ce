"""What a server may read beside uploads: folders below roots that were named, and addresses on hosts that were named.

Both are off unless ``plankter serve`` was told otherwise. A job reads what its server allowed when the job was begun: the
server tells its workers through the environment, never through the files of a job.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plankter._errors import NotFound, ReadError, SettingsError
from plankter.service.outward import Allowed
from plankter.service.uploads import UploadLimits

ENVIRONMENT = "PLANKTER_SERVE_SOURCES"
MAX_PATH = 2_000
SHOWN = 500
_NO_FOLDER = "no such folder among those that this server may read"


@dataclass(frozen=True)
class Sources:
    """Roots and remote hosts that may be read, and how much may be fetched. Made by `allowed_sources`."""

    roots: tuple[Path, ...] = ()
    remote: tuple[str, ...] = ()
    limits: UploadLimits = field(default_factory=UploadLimits)

    def environment(self) -> dict[str, str]:
        """What a worker's environment says of them."""
        facts = {"roots": [str(root) for root in self.roots], "remote": self.remote, "limits": asdict(self.limits)}
        return {ENVIRONMENT: json.dumps(facts)}

    @staticmethod
    def of_environment(environment: Mapping[str, str] | None = None) -> Sources:
        """What the server told this worker; nothing is allowed where it told nothing."""
        text = (os.environ if environment is None else environment).get(ENVIRONMENT)
        if not text:
            return Sources()
        facts = json.loads(text)
        return Sources(tuple(map(Path, facts["roots"])), tuple(facts["remote"]), UploadLimits(**facts["limits"]))

    def hosts(self) -> Allowed:
        """The remote hosts as rules."""
        return Allowed.of(self.remote)

    def folder(self, text: str) -> Path:
        """The real path of a folder that somebody named: absolute, or relative to the only root.

        Raises:
            NotFound: none below a root; the same words whether it is elsewhere or nowhere.
        """
        if not text.strip() or len(text) > MAX_PATH or "\0" in text:
            raise NotFound(_NO_FOLDER)
        asked = Path(text.strip())
        if not asked.is_absolute() and len(self.roots) == 1:
            asked = self.roots[0] / asked
        try:
            found = asked.resolve(strict=True) if asked.is_absolute() else None
        except (OSError, RuntimeError):
            found = None
        if found is None or self.root_of(found) is None or not found.is_dir():
            hint = "the server reads folders where it was started with --allow-root" if not self.roots else None
            raise NotFound(_NO_FOLDER, hint=hint)
        return found

    def root_of(self, path: Path) -> Path | None:
        """The root that a real path lies below, None where there is none."""
        return next((root for root in self.roots if path.is_relative_to(root)), None)

    def checked_folder(self, text: str) -> Path:
        """As `folder`, after a look at all that lies below it: whoever can write there must not lead out of the root.

        Raises:
            NotFound: as `folder`. ReadError: a link that leaves the root, or something that is neither file nor folder.
        """
        found = self.folder(text)
        root = self.root_of(found)
        assert root is not None
        _check_entries(found, root)
        return found


def _check_entries(folder: Path, root: Path) -> None:
    waiting, seen = [folder], {folder}
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    found = Path(entry.path)
                    if entry.is_symlink():
                        found = found.resolve()
                        if not found.is_relative_to(root):
                            name = Path(entry.path).relative_to(here).as_posix()
                            hint = "put the files themselves there, or allow the folder that the link leads to"
                            raise ReadError(
                                f"the link {here.name}/{name} leads out of what may be read", path=entry.path, hint=hint
                            )
                    if entry.is_dir():
                        if found not in seen:
                            seen.add(found)
                            waiting.append(found)
                    elif found.exists() and not entry.is_file():
                        raise ReadError("expected files and folders, this is neither", path=entry.path)
        except OSError as error:
            raise ReadError(f"cannot be read: {error.strerror}", path=here) from error


def allowed_sources(
    roots: tuple[Path, ...] | list[Path], remote: tuple[str, ...] | list[str], limits: UploadLimits
) -> Sources:
    """Roots by their real paths, and rules for hosts that can be understood.

    Raises:
        SettingsError: a root that is no folder, or a rule of no known form.
    """
    real = []
    for root in roots:
        try:
            real.append(root.resolve(strict=True))
        except OSError as error:
            raise SettingsError(f"--allow-root: {error.strerror}", path=root) from error
        if not real[-1].is_dir():
            raise SettingsError("--allow-root: expected a folder", path=root)
    found = Sources(tuple(dict.fromkeys(real)), tuple(remote), limits)
    found.hosts()
    return found


def folder_facts(sources: Sources, text: str) -> dict[str, Any]:
    """What a page shows of a folder: its subfolders, whether it has files, and the way up; of the roots where the text is
    empty.

    Raises:
        NotFound: no folder below a root.
    """
    if not text:
        return {"here": None, "up": None, "folders": [str(root) for root in sources.roots], "files": 0, "more": False}
    here = sources.folder(text)
    folders, files = [], 0
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    files += 1
                elif sources.root_of(Path(entry.path).resolve()) is not None:
                    folders.append(entry.path)
    except OSError as error:
        raise NotFound(_NO_FOLDER) from error
    up = "" if here in sources.roots else str(here.parent)
    return {
        "here": str(here),
        "up": up,
        "folders": sorted(folders)[:SHOWN],
        "files": files,
        "more": len(folders) > SHOWN,
    }
