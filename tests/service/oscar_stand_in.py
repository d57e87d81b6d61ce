"""OSCAR's part of the contract on this computer: buckets are folders, and a start is one run of the service's script.

As the supervisor in an OSCAR container does: the input lies in a temporary folder beside ``script.sh``, its path is in
INPUT_FILE_PATH, TMP_OUTPUT_DIR takes results, output and errors are one log; a request's answer is the one file of
results in base64, or its log.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One start: exit status, log, and what a request would be answered with."""

    status: int
    log: str
    answer: str


class Oscar:
    """One service.

    Args:
        service: the entry of service.yaml.
        folder: of service.yaml, for its script.
        buckets: a folder; one folder a bucket is made in it.
    """

    def __init__(self, service: dict[str, Any], folder: Path, buckets: Path) -> None:
        self._service, self._folder, self._buckets = service, folder, buckets
        for place in (*service["input"], *service["output"]):
            (buckets / place["path"]).mkdir(parents=True, exist_ok=True)

    @property
    def results(self) -> Path:
        return self._buckets / self._service["output"][0]["path"]

    def put(self, name: str, data: bytes) -> Job:
        """A file comes into the bucket of inputs: a job starts."""
        (self._buckets / self._service["input"][0]["path"] / name).write_bytes(data)
        return self._start(name, data)

    def request(self, body: bytes) -> Job:
        """A request: its body is JSON as it is, anything else in base64."""
        data = body if body[:1] == b"{" else base64.b64decode(body)
        return self._start(f"event-file-{uuid.uuid4()}", data)

    def _start(self, name: str, data: bytes) -> Job:
        with tempfile.TemporaryDirectory() as given, tempfile.TemporaryDirectory() as out:
            (Path(given) / name).write_bytes(data)
            script = Path(given) / "script.sh"
            shutil.copyfile(self._folder / self._service["script"], script)
            kept = {key: value for key, value in os.environ.items() if not key.startswith("PLANKTER_")}
            environment = {
                **kept, **self._service["environment"]["Variables"], "INPUT_FILE_PATH": str(Path(given) / name),
                "TMP_INPUT_DIR": given, "TMP_OUTPUT_DIR": out, "PLANKTER_PYTHON": sys.executable,
            }  # fmt: skip
            done = subprocess.run(
                ["/bin/sh", str(script)], env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False,
            )  # fmt: skip
            made = sorted(path for path in Path(out).rglob("*") if path.is_file())
            for path in made:
                shutil.copy(path, self.results / path.name)
            answer = base64.b64encode(made[0].read_bytes()).decode() if len(made) == 1 else done.stdout
            return Job(done.returncode, done.stdout, answer)
