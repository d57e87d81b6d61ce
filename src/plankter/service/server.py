"""The server process: a socket, the application on it, and a graceful end."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plankter._errors import PlankterError
from plankter.service.access import is_loopback
from plankter.service.app import create_app
from plankter.service.metrics import log_to
from plankter.service.state import Limits

PATIENCE_S = 10  # for answers that are being sent when the server is told to stop


@dataclass(frozen=True)
class Address:
    """Where the server answers. ``url`` carries a token where one is asked for; ``token_file`` holds that of scripts."""

    url: str
    token_file: str | None


def run_server(
    workspace: Path, *, host: str, port: int, announce: Callable[[Address], None], limits: Limits | None = None
) -> None:
    """Serves until it is told to stop.

    Args:
        workspace: an existing workspace.
        host, port: where to listen; port 0 takes a free one.
        announce: told the address when the server answers, and again after each token that was used.
        limits: what the server takes on.

    Raises:
        PlankterError: the address cannot be listened on.
    """
    import uvicorn

    listening = _listen(host, port)
    base = f"http://{_name_of(host)}:{listening.getsockname()[1]}/"
    loopback = is_loopback(host)
    token_file = workspace.absolute() / "service" / "api-token"

    def told(token: str) -> None:
        announce(Address(base if loopback else f"{base}?token={token}", None if loopback else str(token_file)))

    app = create_app(workspace, loopback=loopback, announce=told, limits=limits)
    if not loopback:
        _write_secret(token_file, app.state.access.api_token)
    handler = log_to(workspace.absolute() / "service" / "server.log")
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("plankter").setLevel(logging.INFO)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=PATIENCE_S, server_header=False, ws="none",
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        root.removeHandler(handler)
        handler.close()


def _name_of(host: str) -> str:
    """What a browser elsewhere can be given: for all addresses of this computer, its name."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(1024)
        found.set_inheritable(False)
    except OSError as error:
        hint = "choose another --port or --host"
        raise PlankterError(
            f"{host} port {port} cannot be listened on: {error.strerror or error}", hint=hint
        ) from error
    return found


def _write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
