"""A worker that also knows jobs which take as long, or as much memory, as they are told; for tests that end it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from plankter.service import job_kinds, job_worker


def _slow(workspace: Any, job: Any, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    held = bytearray(b"x" * int(1e6 * arguments.get("mb", 0)))
    until = time.monotonic() + arguments.get("seconds", 0)
    while time.monotonic() < until:
        if arguments.get("tells", True):
            progress("waiting", 1, 2)
        time.sleep(0.05)
    return {"held": len(held)}


class _Slow(job_kinds.Kind):
    def run(self, folder: Path, job: Any, arguments: Any, progress: Any) -> dict[str, Any]:
        return self.step(None, job, arguments, progress)  # type: ignore[arg-type]


job_kinds.KINDS["slow"] = _Slow("Slow", _slow)
if __name__ == "__main__":
    job_worker.main()
