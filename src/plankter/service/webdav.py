"""Reads folders by WebDAV (RFC 4918) with the standard library: it follows no redirect and asks no proxy.

Of the libraries for it none asks correctly for names with ``%``, ``#`` or ``?`` in them.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from urllib.parse import quote, unquote, urlsplit

from plankter._errors import ReadError

PIECE = 1 << 20
MAX_ANSWER = 64_000_000
MAX_FOLDERS = 20_000
_ASKED = b'<?xml version="1.0"?><d:propfind xmlns:d="DAV:"><d:prop><d:resourcetype/><d:getcontentlength/></d:prop></d:propfind>'
_WORDS = {401: "it asks for another account", 403: "it forbids this", 404: "there is no such folder"}


class WebDav:
    """One folder of a server; may be used by several threads, each with its own connection.

    Args:
        url: of the folder, ``http`` or ``https``, as in a browser's address line.
        account: user and password, None for none.
        timeout_s: of a connection that stands still.
    """

    def __init__(self, url: str, account: tuple[str, str] | None, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        self._base = "/" + unquote(parts.path).strip("/")
        self._timeout = timeout_s
        self._headers = {"User-Agent": "plankter", "Accept-Encoding": "identity"}
        if account is not None:
            token = base64.b64encode(f"{account[0]}:{account[1]}".encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {token}"
        self._local = threading.local()
        self._made: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Ends all connections."""
        for connection in self._made:
            connection.close()

    def files(self, most: int) -> dict[str, int]:
        """Name relative to the folder -> bytes, of all files below it.

        Raises:
            ReadError: not there, forbidden, more than ``most``, or an answer that is none. OSError, HTTPException: the line.
        """
        found: dict[str, int] = {}
        waiting, seen = [""], {""}
        while waiting:
            for name, size in self._children(waiting.pop()):
                if size is not None:
                    found[name] = size
                elif name not in seen:
                    seen.add(name)
                    waiting.append(name)
                if len(found) > most or len(seen) > MAX_FOLDERS:
                    raise ReadError(f"the address holds more than {most:,} files or {MAX_FOLDERS:,} folders")
        return found

    def _children(self, folder: str) -> Iterator[tuple[str, int | None]]:
        """Names with their sizes, None for a folder."""
        with self._asked("PROPFIND", folder + "/", {"Depth": "1", "Content-Type": "application/xml"}, _ASKED) as answer:
            if answer.status != 207:
                raise ReadError(f"a WebDAV server was expected, it answers {answer.status} {answer.reason}")
            body = answer.read(MAX_ANSWER + 1)
        if len(body) > MAX_ANSWER or b"<!DOCTYPE" in body[:2_000] or b"<!ENTITY" in body:
            raise ReadError("the list of the folder is too large, or holds what a list does not need")
        try:
            tree = ET.fromstring(body)
        except ET.ParseError as error:
            raise ReadError(f"the list of the folder cannot be read: {error}") from error
        for entry in tree.iter("{DAV:}response"):
            path = "/" + unquote(urlsplit(entry.findtext("{DAV:}href") or "").path).strip("/")
            name = path.removeprefix(self._base.rstrip("/")).strip("/")
            if not path.startswith(self._base) or name == folder:
                continue
            if not name.startswith(folder and folder + "/"):
                raise ReadError(f"the list of a folder names {name[:100]!r}, which is not in it")
            if entry.find(".//{DAV:}collection") is not None:
                yield name, None
            else:
                text = (entry.findtext(".//{DAV:}getcontentlength") or "").strip()
                yield name, int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0

    def copy(self, name: str, out: IO[bytes], size: int) -> None:
        """Writes a file to ``out``.

        Raises:
            ReadError: it has not ``size`` bytes (any more), or cannot be had. OSError, HTTPException: the line.
        """
        with self._asked("GET", name, {}, None) as answer:
            if answer.status != 200:
                raise ReadError(f"it answers {answer.status} {answer.reason}", path=name)
            here = 0
            while part := answer.read(PIECE):
                here += len(part)
                if here > size:
                    break
                out.write(part)
        if here != size:
            raise ReadError(f"{here:,} bytes came, {size:,} were announced", path=name, hint="begin the job again")

    @contextmanager
    def _asked(
        self, method: str, name: str, headers: dict[str, str], body: bytes | None
    ) -> Iterator[http.client.HTTPResponse]:
        path = quote(f"{self._base.rstrip('/')}/{name}" if name else self._base)
        connection = self._connection()
        try:
            try:
                connection.request(method, path, body, {**self._headers, **headers})
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()  # the server had ended a connection that was kept: once more on a new one
                connection.request(method, path, body, {**self._headers, **headers})
                answer = connection.getresponse()
            if answer.status in _WORDS:
                raise ReadError(_WORDS[answer.status])
            if 300 <= answer.status < 400:
                raise ReadError("it sends to another address, which is not followed", hint="give that address itself")
            yield answer
            if not answer.isclosed():
                connection.close()
        except BaseException:
            connection.close()  # what is left of the answer must not be taken for the next one
            raise

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            if self._secure:
                context = ssl.create_default_context()
                found = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=context)
            else:
                found = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            self._local.connection = found
            self._made.append(found)
        return found
