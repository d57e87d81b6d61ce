"""Requests to a server of plankter: connections that are kept, patience with a server that is started anew, and its
problems as plankter's errors."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections import deque
from typing import Any
from urllib.parse import urlencode, urlsplit

from plankter._errors import (
    Conflict,
    DiskFull,
    ImageError,
    ModelError,
    NewerWorkspace,
    NotFound,
    PlankterError,
    ReadError,
    SettingsError,
    StoreError,
    UnsupportedFormat,
)

API = "/api/v1"
WAIT_S = (0.2, 0.5, 1.0, 2.0, 4.0)  # between tries of what may be asked again, where the server cannot be reached
Json = dict[str, Any]


class Unreachable(PlankterError):
    """No answer from the server, or none that can be understood."""

    code = "unreachable"


class Denied(PlankterError):
    """The server does not know who asks: the token is missing or wrong (401, 403, 421)."""

    code = "denied"


class JobFailed(PlankterError):
    """A job that was waited for failed or was cancelled; ``job`` is how it stands."""

    code = "job_failed"

    def __init__(self, job: Json) -> None:
        super().__init__(f"job {job['id']} ({job['title']}) {job['state']}: {job['reason'] or 'on request'}")
        self.job = job


def problem_error(status: int, body: bytes) -> PlankterError:
    """The error that an answer with a problem (RFC 9457) stands for; its ``code`` tells which, else the status."""
    try:
        facts = json.loads(body)
        detail, hint = str(facts["detail"]), facts.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        facts, detail, hint = {}, f"the server answered {status}", "is the address that of `plankter serve`?"
    kind = _BY_CODE.get(str(facts.get("code"))) or _by_status(status)
    error = kind(detail, row=facts.get("row"), hint=hint)
    # the detail names the file already
    error.path = facts.get("path")
    error.message = detail.removeprefix(f"{error.path}: ")
    return error


_BY_CODE: dict[str, type[PlankterError]] = {
    kind.code: kind
    for kind in (
        Conflict, DiskFull, ImageError, ModelError, NewerWorkspace, NotFound, ReadError, SettingsError, StoreError, UnsupportedFormat
    )
}  # fmt: skip


def _by_status(status: int) -> type[PlankterError]:
    known = {401: Denied, 403: Denied, 404: NotFound, 409: Conflict, 415: ReadError, 421: Denied, 422: SettingsError}
    return known.get(status, StoreError if status >= 500 else PlankterError)


class Connections:
    """A server and the connections to it that are kept and used again; may be used by several threads.

    Arguments and errors are those of `plankter.client.Client`.
    """

    def __init__(self, address: str, token: str | None, timeout_s: float) -> None:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        try:
            self._port = parts.port
        except ValueError as error:
            raise SettingsError(f"expected an address as http://127.0.0.1:8000, got {address!r}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"expected an address as http://127.0.0.1:8000, got {address!r}")
        self._host, self._tls, self._base = parts.hostname, parts.scheme == "https", parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.strip()}"}
        self._idle: deque[http.client.HTTPConnection] = deque()

    def close(self) -> None:
        """Closes the connections that are kept."""
        while self._idle:
            self._idle.pop().close()

    def json(self, method: str, path: str, body: bytes | None = None, kind: str | None = None, **query: Any) -> Json:
        """The JSON object that a route of the API answers with; ``query`` without what is None.

        Raises:
            PlankterError: what the server says is wrong. Unreachable: no answer.
        """
        given = {name: str(v).lower() if isinstance(v, bool) else v for name, v in query.items() if v is not None}
        address = f"{API}{path}{f'?{urlencode(given)}' if given else ''}"
        # a job or an upload must not be made twice
        again = method == "GET" or path.startswith("/predict")
        return object_of(*self.ask(method, address, body, kind, again=again))

    def good(self, method: str, address: str) -> bytes:
        """The body of an answer that is none of a problem, from any path of the server; may be asked twice."""
        status, body = self.ask(method, address, again=True)
        if status >= 300:
            raise problem_error(status, body)
        return body

    def ask(
        self, method: str, address: str, body: bytes | None = None, kind: str | None = None, *, again: bool
    ) -> tuple[int, bytes]:  # fmt: skip
        """Status and body of the answer.

        Args:
            again: the request may be sent twice where its answer was lost. Else it goes out on a connection of its own,
                so that no other than a refused connection lets it be sent again.

        Raises:
            Unreachable: no answer.
        """
        headers = self._headers | ({} if body is None else {"Content-Type": kind or "application/octet-stream"})
        for pause in (*WAIT_S, None):
            connection = self._kept() if again else self._connection()
            try:
                connection.request(method, self._base + address, body, headers)
                answer = connection.getresponse()
                found = answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                lost = again and not isinstance(error, TimeoutError | ssl.SSLError)
                if pause is not None and (lost or isinstance(error, ConnectionRefusedError)):
                    time.sleep(pause)
                    continue
                where = f"{self._host}:{connection.port}"
                raise Unreachable(f"{where} does not answer: {error}", hint="is `plankter serve` running?") from error
            if answer.will_close:
                connection.close()
            else:
                self._idle.append(connection)
            return found
        raise AssertionError("not reached")

    def _kept(self) -> http.client.HTTPConnection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connection()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)


def object_of(status: int, body: bytes) -> Json:
    """The JSON object of an answer.

    Raises:
        PlankterError: it is a problem. Unreachable: it is not one of our server's.
    """
    if status >= 300:
        raise problem_error(status, body)
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Unreachable("the answer is no JSON", hint="is the address that of `plankter serve`?") from error
    if not isinstance(found, dict):
        raise Unreachable("the answer is no JSON object", hint="is the address that of `plankter serve`?")
    return found
