"""A folder on WebDAV (Nextcloud too) or in S3, fetched into an upload before a job reads it; S3 needs ``plankter[s3]``.

The account is given to the worker through its standard input and lives in memory: neither the job's files nor its log hold
it, and a job that begins again after its server has ended cannot go on with it.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from plankter._errors import PlankterError, ReadError, SettingsError
from plankter.service.outward import Allowed, guarded
from plankter.service.problems import Problem
from plankter.service.uploads import FREE_BYTES, Upload, UploadLimits, safe_name
from plankter.service.webdav import WebDav
from plankter.store.files import write_text
from plankter.workflow.progress import Progress

log = logging.getLogger(__name__)
MARK = "fetched.json"
AT_ONCE = 8
PIECE = 1 << 20
TIMEOUT_S = 30.0
SECRETS = ("user", "password")
EXTRA = "pip install 'plankter[s3]' where the server runs"
_SHARE = re.compile(r"(?P<base>.*?)(?:/index\.php)?/s/(?P<token>[A-Za-z0-9]{10,40})/?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


@dataclass(frozen=True)
class Place:
    """A folder elsewhere. ``url``: of the WebDAV folder or of the S3 server; ``path``: bucket and folder in S3; ``account``:
    whether one is needed; ``share``: token of a Nextcloud share, which stands in its link."""

    kind: str
    url: str
    path: str = ""
    account: bool = False
    share: str = ""

    def words(self) -> str:
        """For people, without an account."""
        host = urlsplit(self.url).hostname or ""
        name = self.path or unquote(urlsplit(self.url).path).strip("/").rsplit("/", 1)[-1]
        return f"{name} on {host}" if name and not self.share else f"a share on {host}"

    def facts(self) -> dict[str, Any]:
        """What the files of a job hold of it."""
        return {"kind": self.kind, "url": self.url, "path": self.path, "account": self.account, "share": self.share}


def place_of(given: Mapping[str, object], allowed: Allowed) -> Place:
    """The folder that ``address`` means: ``https://`` for WebDAV or a Nextcloud share, ``s3://bucket/folder`` for S3 at
    ``endpoint`` or, without one, at Amazon's server of ``region``.

    Raises:
        SettingsError: an address of another form. Refused: a host that was not named.
    """
    texts = {name: str(given.get(name) or "").strip() for name in ("address", "endpoint", "region")}
    address = texts["address"]
    if len(address) > 2_000:
        raise SettingsError("the address is too long")
    account = bool(given.get("account"))
    if address.startswith("s3://"):
        bucket, _, folder = address.removeprefix("s3://").strip("/").partition("/")
        if not _BUCKET.fullmatch(bucket) or ".." in folder.split("/"):
            raise SettingsError("expected s3://bucket/folder")
        region = texts["region"] or "us-east-1"
        if not _REGION.fullmatch(region):
            raise SettingsError(f"expected a region like eu-central-1, got {region[:40]!r}")
        url = texts["endpoint"] or f"https://s3.{region}.amazonaws.com"
        found = Place("s3", url.rstrip("/"), f"{bucket}/{folder}".rstrip("/"), account)
    else:
        parts = urlsplit(address)
        if parts.query or parts.fragment or ".." in unquote(parts.path).split("/"):
            raise SettingsError("expected an address like https://host/folder, without ? and #")
        share = _SHARE.fullmatch(address.rstrip("/"))
        if share:
            found = Place("webdav", f"{share['base']}/public.php/webdav", "", account, share["token"])
        else:
            found = Place("webdav", address.rstrip("/") or address, "", account)
    allowed.check_url(found.url)
    return found


def is_fetched(upload: Upload) -> bool:
    """Whether all of a remote folder is here."""
    return (upload.folder / MARK).is_file()


def fetch(
    facts: Mapping[str, Any],
    secret: Mapping[str, str] | None,
    upload: Upload,
    allowed: Allowed,
    limits: UploadLimits,
    progress: Progress,
) -> None:
    """Fetches the folder into the upload, unless it is there; files that are wholly here are not fetched again.

    Args:
        facts: of a `Place`.
        secret: ``user`` and ``password``; for S3 the key's id and the key.
        upload: where to.
        allowed: judges every connection while it lasts.
        limits: of an upload.
        progress: told of every file.

    Raises:
        ReadError: nothing there, refused, or over a limit. PlankterError: a library is missing.
    """
    if is_fetched(upload):
        return
    place = Place(**{name: facts[name] for name in ("kind", "url", "path", "account", "share")})
    if place.account and not secret:
        hint = "begin again on the page where the address was given"
        raise ReadError("the account for the address is not kept on the disk", hint=hint)
    allowed.check_url(place.url)
    opener, errors = _opener(place, secret or {}, limits.max_files)
    with guarded(allowed) as refused:
        try:
            files, size = _all_of(opener, upload, limits, progress)
        except PlankterError as error:
            if error in refused:
                raise
            raise type(error)(f"{place.words()}: {error.message}", path=error.path, hint=error.hint) from None
        except errors as error:
            if refused:
                raise refused[0] from None
            raise ReadError(f"{place.words()}: {_said(error, secret or {})}", hint="is the address right, the account?") \
                from None  # fmt: skip
        finally:
            opener.close()
    write_text(upload.folder / MARK, json.dumps({"files": files, "bytes": size}))
    log.info("%d files, %d bytes fetched from %s", files, size, place.words())


def _said(error: BaseException, secret: Mapping[str, str]) -> str:
    text = str(error).strip() or type(error).__name__
    for value in secret.values():
        if value:
            text = text.replace(value, "***").replace(quote(value, safe=""), "***")
    return text[:500]


@dataclass(frozen=True)
class _Opener:
    """``listed``: name -> bytes, relative to the folder; ``copy``: name, file to write, its bytes; ``close`` at the end."""

    listed: Callable[[], dict[str, int]]
    copy: Callable[[str, Any, int], None]
    close: Callable[[], None]


def _opener(place: Place, secret: Mapping[str, str], most: int) -> tuple[_Opener, tuple[type[BaseException], ...]]:
    try:
        return (_webdav if place.kind == "webdav" else _s3)(place, secret, most)
    except ImportError as error:
        raise PlankterError(f"S3 needs a library that is not installed: {error.name}", hint=EXTRA) from error


def _webdav(place: Place, secret: Mapping[str, str], most: int) -> tuple[_Opener, tuple[type[BaseException], ...]]:
    account = (place.share, secret.get("password", "")) if place.share else None
    if account is None and secret.get("user"):
        account = (secret["user"], secret.get("password", ""))
    server = WebDav(place.url, account, TIMEOUT_S)
    return _Opener(lambda: server.files(most), server.copy, server.close), (OSError, HTTPException, ValueError)


def _s3(place: Place, secret: Mapping[str, str], most: int) -> tuple[_Opener, tuple[type[BaseException], ...]]:
    import s3fs
    from botocore.exceptions import BotoCoreError, ClientError

    key = {"key": secret["user"], "secret": secret.get("password", "")} if secret.get("user") else {"anon": True}
    config = {
        "connect_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S, "retries": {"max_attempts": 3}, "proxies": {},
        "s3": {"addressing_style": "path"},  # so that the bucket is no part of the host
    }  # fmt: skip
    system = s3fs.S3FileSystem(
        **key, endpoint_url=place.url, config_kwargs=config, skip_instance_cache=True, use_listings_cache=False
    )

    def listed() -> dict[str, int]:
        found = system.find(place.path, detail=True)
        start = len(place.path) + 1
        return {name[start:]: int(facts["size"] or 0) for name, facts in found.items() if name[start:]}

    def copy(name: str, out: Any, limit: int) -> None:
        _copied(system, f"{place.path}/{name}", out, limit)

    return _Opener(listed, copy, lambda: None), (BotoCoreError, ClientError, OSError, ValueError)


def _copied(system: Any, name: str, out: Any, limit: int) -> None:
    with system.open(name, "rb") as source:
        here = 0
        while part := source.read(PIECE):
            here += len(part)
            if here > limit:
                raise ReadError(f"more bytes came than the {limit:,} that were announced", path=name)
            out.write(part)
        if here != limit:
            raise ReadError(
                f"{here:,} bytes came of {limit:,}: the line was cut", path=name, hint="begin the job again"
            )


def _all_of(opener: _Opener, upload: Upload, limits: UploadLimits, progress: Progress) -> tuple[int, int]:
    progress("asking what is there", 0, None)
    wanted = {name: size for name, size in opener.listed().items() if not _hidden(name)}
    if not wanted:
        raise ReadError("the address holds no file", hint="name the folder that holds the images or the class folders")
    total = sum(wanted.values())
    if len(wanted) > limits.max_files or total > limits.max_bytes:
        raise ReadError(
            f"{len(wanted):,} files of {total:,} bytes are over the limit of {limits.max_files:,} and {limits.max_bytes:,}"
        )
    if shutil.disk_usage(upload.folder).free - total < FREE_BYTES:
        raise ReadError(f"the disk of the server has no room for {total:,} bytes")
    targets: dict[str, Path] = {}
    for name in sorted(wanted):
        try:
            targets[name] = upload.data / safe_name(name)
        except Problem as error:
            raise ReadError(f"a file of the address cannot be kept: {error.detail}", hint=error.hint) from error
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [
            pool.submit(_one, opener, name, wanted[name], target, upload.folder / f".part-{number}")
            for number, (name, target) in enumerate(targets.items())
        ]
        try:
            for number, future in enumerate(found, start=1):
                future.result()
                progress("fetching files", number, len(found))
        finally:
            for future in found:
                future.cancel()
    return len(wanted), total


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _one(opener: _Opener, name: str, size: int, target: Path, partial: Path) -> None:
    if target.is_file() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as out:
        opener.copy(name, out, size)
    partial.replace(target)
