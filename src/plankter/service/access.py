"""Who may ask: this computer without an account, others with a token that is used once; never another web site.

A page of another site that is open in the same browser can send requests to a server on this computer: by name (DNS
rebinding, caught by the Host header) or across sites (caught by Sec-Fetch-Site and Origin).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import threading
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import parse_qs, urlencode

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plankter.service.problems import Problem, problem_response

log = logging.getLogger(__name__)
COOKIE = "plankter_session"
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/health", "/ready")  # asked by whoever watches the server; they tell nothing
MAX_SESSIONS = 1_000
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "x-frame-options": "DENY", "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}  # fmt: skip
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_NOT_KEPT = (b"cache-control", b"no-store")


@lru_cache(1_000)
def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from this computer alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Tokens and sessions. A token of the address is taken once and then replaced; a script sends ``api_token``.

    Args:
        loopback: nobody else can reach the server, no token is asked for.
        announce: told each new token of the address.
    """

    def __init__(self, *, loopback: bool, announce: Callable[[str], None] = lambda token: None) -> None:
        self.loopback = loopback
        self.api_token = secrets.token_urlsafe(32)
        self._announce = announce
        self._sessions: dict[bytes, None] = {}
        self._lock = threading.Lock()
        self.token = secrets.token_urlsafe(32)

    def exchange(self, token: str) -> str | None:
        """A session for the token of the address, which is worth nothing from then on; None for any other token."""
        with self._lock:
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                return None
            self.token = secrets.token_urlsafe(32)
            session = secrets.token_urlsafe(32)
            self._sessions[_digest(session)] = None
            while len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        self._announce(self.token)
        return session

    def allows(self, headers: Headers, cookie: str | None) -> bool:
        """Whether a request comes from somebody known."""
        if self.loopback:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.encode(), self.api_token.encode()):
            return True
        return cookie is not None and _digest(cookie) in self._sessions


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name.lower() if not rest or rest.startswith(":") else host.lower()  # else it is no address at all
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that a page of another site sent the request; a script says nothing."""
    fetch = headers.get("sec-fetch-site")
    if fetch is not None and fetch not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


class Guard:
    """Stands before everything else; adds the headers that keep a browser to the server's own scripts and styles."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                names = {name.lower() for name, _ in given}
                own = _RAW if scope["path"].startswith("/static/") else [*_RAW, _NOT_KEPT]
                message["headers"] = [*given, *(header for header in own if header[0] not in names)]
            await send(message)

        refused = self._refusal(Request(scope))
        if refused is None:
            await self.app(scope, receive, with_headers)
        else:
            await refused(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if self.access.loopback and not is_loopback(host_name(headers.get("host", ""))):
            detail = "the server answers on this computer by the names localhost and 127.0.0.1 only"
            return problem_response(request, Problem(421, detail))
        if request.method not in SAFE and is_cross_site(headers):
            return problem_response(request, Problem(403, "a page of another site may change nothing here"))
        if self.access.loopback or request.url.path in OPEN or request.url.path.startswith("/static/"):
            return None
        asked = parse_qs(request.url.query)
        if request.method == "GET" and "token" in asked:
            session = self.access.exchange(
                asked.pop("token")[0].strip().rpartition("token=")[2]
            )  # or the whole address
            if session is not None:
                rest = urlencode(asked, doseq=True)
                answer = RedirectResponse(request.url.path + (f"?{rest}" if rest else ""), 303)
                secure = request.url.scheme == "https"
                answer.set_cookie(COOKIE, session, httponly=True, samesite="strict", secure=secure, path="/")
                return answer
        if self.access.allows(headers, request.cookies.get(COOKIE)):
            return None
        detail = "sign in with the address that the server printed where it was started; each address works once"
        return problem_response(request, Problem(401, detail))
