"""Files on their way in: sent in pieces, gone on with after a cut, never under a name of their own choice."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from plankter._errors import Conflict, DiskFull, NotFound
from plankter.service.jobs import now
from plankter.service.problems import Problem
from plankter.store.files import write_text

_ID = re.compile(r"[0-9a-f]{24}")
MAX_NAME = 200
MAX_DEPTH = 12
FREE_BYTES = 500_000_000  # of the disk that are left to others
STALE_S = 7 * 86400
DRAINED = 64_000_000


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may hold."""

    max_bytes: int = 64_000_000_000
    max_files: int = 200_000


class Upload:
    """One upload: a folder with ``upload.json`` and what was sent below ``data/``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def id(self) -> str:
        """What it is asked for by: the name of its folder, 24 hexadecimal digits."""
        return self.folder.name

    @property
    def data(self) -> Path:
        """The folder that the files are sent into, each below it under its own name."""
        return self.folder / "data"

    def facts(self) -> dict[str, Any]:
        """What was noted when it was made."""
        found: dict[str, Any] = json.loads((self.folder / "upload.json").read_text(encoding="utf-8"))
        return found

    def sizes(self) -> dict[str, int]:
        """Bytes that are here of each file, by its name."""
        if not self.data.is_dir():
            return {}
        return {
            p.relative_to(self.data).as_posix(): p.stat().st_size for p in sorted(self.data.rglob("*")) if p.is_file()
        }

    def missing(self) -> list[str]:
        """Files of which less is here than was announced."""
        wanted: dict[str, int] = {}
        for line in self._announced().splitlines():
            name, size = json.loads(line)
            wanted[name] = size
        here = self.sizes()
        return sorted(name for name, size in wanted.items() if here.get(name, 0) != size)

    def _announced(self) -> str:
        try:
            return (self.folder / "sizes.jsonl").read_text(encoding="utf-8")
        except OSError:
            return ""

    def announce(self, name: str, size: int) -> None:
        """Notes how large a file will be when all of it is here."""
        path = self.folder / "sizes.jsonl"
        before = path.stat().st_size if path.is_file() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, size]) + "\n")
        except OSError:  # half a line would spoil the next
            if path.is_file():
                os.truncate(path, before)
            raise


def safe_name(name: str) -> PurePosixPath:
    """The path below an upload that a name from outside means.

    Raises:
        Problem: it would leave the upload, or no system could hold it.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    bad = (
        not path.parts
        or path.is_absolute()
        or len(path.parts) > MAX_DEPTH
        or any(part in ("..", ".") or len(part.encode("utf-8", "replace")) > MAX_NAME for part in path.parts)
        or any(ord(sign) < 32 or sign == ":" or 0xD800 <= ord(sign) < 0xE000 for sign in name)
    )
    if bad:
        raise Problem(422, f"{name[:100]!r} is no name for a file here", hint="rename it without .. : or control signs")
    return path


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Takes the rest of a piece that is refused: many clients read no answer before they have sent all."""
    left = DRAINED
    async for block in body:
        left -= len(block)
        if left < 0:
            return


class UploadStore:
    """The uploads of a workspace."""

    def __init__(self, root: Path, limits: UploadLimits) -> None:
        self.root, self.limits = root, limits
        self._used: dict[str, tuple[int, int]] = {}  # upload -> files, bytes, as this server counted them
        self._writing: set[Path] = set()
        self._lock = threading.Lock()

    def create(self, purpose: str) -> Upload:
        """A new and empty upload."""
        upload = Upload(self.root / secrets.token_hex(12))
        upload.data.mkdir(parents=True)
        write_text(upload.folder / "upload.json", json.dumps({"purpose": purpose, "created_at": now()}) + "\n")
        return upload

    def get(self, upload_id: str) -> Upload:
        """An upload by its id.

        Raises:
            NotFound: there is none (any more).
        """
        if not _ID.fullmatch(upload_id) or not (self.root / upload_id / "upload.json").is_file():
            raise NotFound(f"no upload {upload_id[:40]!r}")
        return Upload(self.root / upload_id)

    def complete(self, upload_id: str) -> Upload:
        """An upload of which everything is here.

        Raises:
            NotFound: no such upload. Conflict: nothing was sent, or not all of it.
        """
        upload = self.get(upload_id)
        if (upload.folder / "set").is_dir():  # a job has unpacked it
            return upload
        if not any(path.is_file() for path in upload.data.rglob("*")):
            raise Conflict("the upload holds nothing (any more)", hint="send the files again")
        if missing := upload.missing():
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise Conflict(f"the upload was cut off: {', '.join(missing[:3])}{more} is not wholly here")
        return upload

    def remove(self, upload_id: str) -> None:
        """Removes an upload with all that was sent."""
        shutil.rmtree(self.get(upload_id).folder, ignore_errors=True)
        with self._lock:
            self._used.pop(upload_id, None)

    def sweep(self, in_use: set[str]) -> int:
        """Removes uploads that nothing refers to and that nobody went on with for a week; returns how many."""
        removed = 0
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if path.name not in in_use and time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
        return removed

    async def put(
        self, upload_id: str, name: str, offset: int, size: int | None, body: AsyncIterator[bytes]
    ) -> int:  # fmt: skip
        """Appends a piece of a file.

        Args:
            upload_id: of the upload.
            name: the file, relative to the upload.
            offset: where the piece begins: what is here already.
            size: of the whole file, where the sender knows.
            body: the piece.

        Returns:
            Bytes of the file that are here now.

        Raises:
            Problem: a name that cannot be, a limit, another offset (the answer says which), a full disk.
        """
        upload = self.get(upload_id)
        path = upload.data / safe_name(name)
        with self._lock:
            if path in self._writing:
                raise Problem(409, "another piece of the same file is being received")
            self._writing.add(path)
        try:
            here = path.stat().st_size if path.is_file() else 0
            if offset != here:
                raise Problem(409, f"{here} bytes of the file are here, the piece begins at {offset}", size=here)
            self._check_room(upload, new_file=not path.exists(), size=(size or 0) - here)
            if size is not None and not here:
                upload.announce(path.relative_to(upload.data).as_posix(), size)
            return await self._append(upload, path, here, size, body)
        except (Problem, OSError):
            await _drain(body)
            raise
        finally:
            with self._lock:
                self._writing.discard(path)

    def _check_room(self, upload: Upload, *, new_file: bool, size: int) -> None:
        with self._lock:
            if upload.id not in self._used:
                sizes = upload.sizes()
                self._used[upload.id] = len(sizes), sum(sizes.values())
            files, used = self._used[upload.id]
            if new_file and files >= self.limits.max_files:
                raise Problem(413, f"an upload holds {self.limits.max_files:,} files at most")
            if used + size > self.limits.max_bytes:
                raise Problem(413, f"an upload holds {self.limits.max_bytes:,} bytes at most")
            if shutil.disk_usage(self.root).free - size < FREE_BYTES:
                hint = "free some space, then go on where it was"
                raise Problem(507, "the disk of the server has no room for this file", hint=hint, code=DiskFull.code)
            self._used[upload.id] = files + new_file, used

    async def _append(
        self, upload: Upload, path: Path, here: int, size: int | None, body: AsyncIterator[bytes]
    ) -> int:  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            async for block in body:
                here += len(block)
                if size is not None and here > size:
                    raise Problem(413, f"more bytes came than the {size} announced")
                with self._lock:
                    files, used = self._used.get(upload.id, (0, 0))
                    if used + len(block) > self.limits.max_bytes:
                        raise Problem(413, f"an upload holds {self.limits.max_bytes:,} bytes at most")
                    self._used[upload.id] = files, used + len(block)
                file.write(block)
        return here
