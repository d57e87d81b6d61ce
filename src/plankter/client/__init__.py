"""The workspace of another computer, or of another program: API v1 of `plankter serve` from Python.

    from plankter.client import Client

    with Client("http://127.0.0.1:8000") as lab:
        print(lab.predict(Path("image.png"))["top"][0])
        job = lab.wait(lab.start("analyse", upload=lab.upload(Path("images")))["id"])
        lab.download(job["id"], "predictions.csv", Path("predictions.csv"))

Only the standard library is needed. What the server refuses is raised as the error that the package itself would raise.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from plankter._errors import Conflict, ReadError
from plankter.client.requests import (
    API,
    WAIT_S,
    Connections,
    Denied,
    JobFailed,
    Json,
    Unreachable,
    object_of,
)

__all__ = ["Client", "Denied", "JobFailed", "Unreachable"]
PART_BYTES = 8_000_000
LOOK_S = (0.1, 1.0)  # first and longest time between two looks at a job
ENDED = ("done", "failed", "cancelled")
UploadProgress = Callable[[str, int, int], None]


class Client:
    """The API of one server. May be used by several threads.

    Args:
        address: what `plankter serve` printed, without a token.
        token: contents of ``service/api-token`` of the workspace; not needed on the server's own computer.
        timeout_s: for one answer.

    Raises:
        SettingsError: no such address can be.
    """

    def __init__(
        self, address: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout_s: float = 120
    ) -> None:
        self._server = Connections(address, token, timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._server.close()

    # -- predictions at once
    def predict(self, image: Path | bytes, *, model: str | None = None, top: int = 5, scores: bool = True) -> Json:
        """One image, encoded: ``{"top": [{"class_id", "name", "aphia_id", "score"}], "decision", "reason", ...}``.

        Raises:
            ImageError: it cannot be used. NotFound: no such model.
        """
        return self._server.json("POST", "/predict", _bytes(image), model=model, top=top, scores=scores)

    def predict_many(
        self,
        images: Sequence[Path] | Mapping[str, bytes],
        *,
        model: str | None = None,
        top: int = 5,
        scores: bool = True,
    ) -> Json:
        """Up to 2,000 images; one that cannot be used has a ``failure``: ``{"model", "model_id", "images": [...]}``."""
        named = images if isinstance(images, Mapping) else {str(path): _bytes(path) for path in images}
        entries = [{"file": name, "data": base64.b64encode(data).decode()} for name, data in named.items()]
        body = json.dumps({"images": entries}).encode()
        return self._server.json("POST", "/predict/many", body, "application/json", model=model, top=top, scores=scores)

    def predict_zip(self, file: Path | bytes, *, model: str | None = None, top: int = 5, scores: bool = True) -> Json:
        """As `predict_many`, for the images of a zip."""
        return self._server.json("POST", "/predict/zip", _bytes(file), model=model, top=top, scores=scores)

    # -- files on their way
    def begin_upload(self) -> str:
        """The id of a new and empty upload, for whoever wants to note it before anything is sent."""
        return str(self._server.json("POST", "/uploads", b"{}", "application/json")["id"])

    def upload(
        self, source: Path | Mapping[str, Path], *, upload_id: str | None = None, progress: UploadProgress | None = None,
        part_bytes: int = PART_BYTES,
    ) -> str:  # fmt: skip
        """Sends files in parts; a part that was cut is gone on with where it was.

        Args:
            source: a file, a folder with all below it, or files by the names that they get.
            upload_id: of `begin_upload`, or of an upload that was cut off: what the server has of it is not sent again.
            progress: told name, bytes sent, and bytes in all, after each part.
            part_bytes: of one request.

        Returns:
            The id of the upload, for `start`.

        Raises:
            ReadError: no such file. Conflict: another file of that name is there. DiskFull: on the server.
        """
        files = _files(source)
        here: dict[str, int] = {}
        if upload_id is None:
            upload_id = self.begin_upload()
        else:
            here = self._server.json("GET", f"/uploads/{upload_id}")["files"]
        total, before = sum(path.stat().st_size for path in files.values()), 0
        for name, path in files.items():
            size, offset = path.stat().st_size, here.get(name)
            while offset is None or offset < size:
                offset = self._put(upload_id, name, path, offset or 0, size, part_bytes)
                if progress is not None:
                    progress(name, before + offset, total)
            if offset > size:
                raise Conflict(f"the upload holds {offset} bytes of it, the file has {size}", path=path)
            before += size
        return upload_id

    def _put(self, upload_id: str, name: str, path: Path, offset: int, size: int, part_bytes: int) -> int:
        with path.open("rb") as file:
            file.seek(offset)
            part = file.read(part_bytes)
        address = f"{API}/uploads/{upload_id}/files/{quote(name)}?{urlencode({'offset': offset, 'size': size})}"
        for pause in (*WAIT_S, None):
            status, body = self._server.ask("PUT", address, part, again=True)
            if status != 409:
                break
            there = json.loads(body).get("size")
            if isinstance(there, int):  # of a part whose answer was lost, or that another client sent
                return there
            if pause is not None:  # the server has not noticed yet that the line to an earlier part is cut
                time.sleep(pause)
        return int(object_of(status, body)["size"])

    # -- jobs
    def start(self, kind: str, *, title: str = "", **arguments: Any) -> Json:
        """Puts a job into the queue: ``analyse``, ``ingest``, ``classify``, ``train``, ``evaluate``, ``transform``,
        ``export``, ``inspect``. It is on the server's disk when this returns."""
        body = json.dumps({"kind": kind, "title": title, "arguments": arguments}).encode()
        return self._server.json("POST", "/jobs", body, "application/json")

    def job(self, job_id: str) -> Json:
        """How a job stands, with its ``progress``, and its ``result`` where it is done."""
        return self._server.json("GET", f"/jobs/{quote(job_id, safe='')}")

    def wait(
        self, job_id: str, *, timeout_s: float | None = None, progress: Callable[[Json], None] | None = None
    ) -> Json:
        """Waits until a job is done; a server that is started anew meanwhile is waited for.

        Raises:
            JobFailed: it failed or was cancelled. Unreachable: it has not ended within ``timeout_s``, or the server is gone.
        """
        end, pause = None if timeout_s is None else time.monotonic() + timeout_s, LOOK_S[0]
        while True:
            job = self.job(job_id)
            if progress is not None:
                progress(job)
            if job["state"] in ENDED:
                break
            if end is not None and time.monotonic() > end:
                raise Unreachable(f"job {job_id} has not ended within {timeout_s:g} s", hint="it goes on; wait again")
            time.sleep(pause)
            pause = min(LOOK_S[1], 1.5 * pause)
        if job["state"] != "done":
            raise JobFailed(job)
        return job

    def cancel(self, job_id: str) -> Json:
        """Asks a job to stop."""
        return self._server.json("POST", f"/jobs/{quote(job_id, safe='')}/cancel")

    def log(self, job_id: str) -> str:
        """The end of a job's log."""
        return self._server.good("GET", f"{API}/jobs/{quote(job_id, safe='')}/log").decode()

    def download(self, job_id: str, name: str, out: Path) -> Path:
        """A result of an analysis (``predictions.csv``, ``predictions.parquet``, ``images.zip`` ...) or the ``files.zip`` of
        a transformation or an export, into ``out``."""
        job = quote(job_id, safe="")
        address = (
            f"/jobs/{job}/files.zip" if name == "files.zip" else f"/results/job/{job}/download/{quote(name, safe='')}"
        )
        out.write_bytes(self._server.good("GET", address))
        return out

    # -- what the workspace holds
    def status(self) -> Json:
        """Runs, particles, how many are predicted and validated, and counts by class."""
        return self._server.json("GET", "/status")

    def runs(self) -> Iterator[Json]:
        """All runs, fetched in pages."""
        return self._pages("/runs", "runs", 500)

    def jobs(self) -> Iterator[Json]:
        """All jobs, the newest first."""
        return self._pages("/jobs", "jobs", 200)

    def particles(self, run_id: str | None = None, *, limit: int = 2_000, **where: Any) -> Iterator[Json]:
        """Particles, fetched in pages of ``limit``; ``where``: ``sample_id``, ``predicted``, ``label``, ``status``, ``sort``,
        ``descending``."""
        return self._pages("/particles", "particles", limit, run_id=run_id, **where)

    def counts(self, run_id: str) -> list[Json]:
        """Counts by class of a run."""
        found: list[Json] = json.loads(self._server.good("GET", f"{API}/runs/{quote(run_id, safe='')}/counts"))
        return found

    def image(self, run_id: str, index: int) -> bytes:
        """The vignette of a particle, as PNG."""
        return self._server.good("GET", f"{API}/runs/{quote(run_id, safe='')}/particles/{index}/image")

    def models(self) -> list[Json]:
        """The models there are."""
        found: list[Json] = self._server.json("GET", "/models")["models"]
        return found

    def _pages(self, path: str, member: str, limit: int, **query: Any) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            page = self._server.json("GET", path, limit=limit, cursor=cursor, **query)
            yield from page[member]
            cursor = page["next"]
            if cursor is None:
                return


def _bytes(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror}", path=source) from error


def _files(source: Path | Mapping[str, Path]) -> dict[str, Path]:
    """Files by the name that each gets in the upload.

    Raises:
        ReadError: one is not there, or there are none.
    """
    if isinstance(source, Mapping):
        found = dict(source)
    elif source.is_file():
        found = {source.name: source}
    else:
        found = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    for path in found.values():
        if not path.is_file():
            raise ReadError("no such file", path=path)
    if not found:
        raise ReadError(
            "expected a file, or a folder with files in it", path=source if isinstance(source, Path) else None
        )
    return found
