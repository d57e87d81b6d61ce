"""A server of plankter in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Served:
    """`plankter serve` in a process of its own, on a port that it keeps over `kill` and `start`.

    Args:
        folder: the workspace.
        code: run in the process before it serves, to make a disk full or to change a limit.
    """

    def __init__(self, folder: Path, code: str = "") -> None:
        self.folder, self._code = folder, code
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Served:
        """Returns when it answers."""
        command = ["plankter", "serve", "-w", str(self.folder), "--port", str(self.port)]
        code = f"{self._code}\nimport sys\nfrom plankter.cli import main\nsys.argv = {command!r}\nmain()"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
                    line.sendall(f"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
                    if b" 200 " in line.recv(1000):
                        return self
            except OSError:
                assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server did not become ready"
            time.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, in peace or not, and waits for that."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None


def ended(client: Any, job_id: str, within_s: float = 180) -> dict[str, Any]:
    """The job as it stands when it has ended, asked for through a test client."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        job: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.2)
    raise AssertionError("the job did not end")
