"""A Dockerfile as its instructions, and its steps on this computer where no engine is at hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

# steps of the system's own, which only an image has: packages, users, and the network's start script
OF_THE_SYSTEM = ("apt-get ", "git init ", "useradd ")


class Instruction(NamedTuple):
    """One instruction of one stage."""

    stage: str
    name: str
    value: str

    @property
    def listed(self) -> list[str]:
        """The value of the form that is a JSON list."""
        found: list[str] = json.loads(self.value[self.value.index("[") :])
        return found


def instructions(text: str) -> list[Instruction]:
    """All of them; lines that go on are joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found, stage = [], ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            stage = value.split(" AS ")[-1]
        found.append(Instruction(stage, name, " ".join(value.split())))
    return found


def environment_of(found: list[Instruction]) -> dict[str, str]:
    """What ENV sets."""
    pairs = [pair for one in found if one.name == "ENV" for pair in one.value.split()]
    return dict(pair.split("=", 1) for pair in pairs)


class Place:
    """A folder that stands for the image's file system.

    Args:
        root: /srv is below it.
        programs: stands for /usr/local/bin; its ``python3`` is the one that packages go to.
    """

    def __init__(self, root: Path, programs: Path) -> None:
        self.root, self.programs = root, programs
        self.left: list[str] = []

    def here(self, text: str) -> str:
        """A text of the image with its paths as they are here."""
        return text.replace("/usr/local/bin", str(self.programs)).replace("/srv", str(self.root / "srv"))

    @property
    def path(self) -> str:
        return os.pathsep.join((str(self.programs), os.environ.get("PATH", "")))

    def run(self, step: Instruction) -> None:
        """One RUN; those of the system are only noted."""
        if step.value.startswith(OF_THE_SYSTEM):
            self.left.append(step.value.split(maxsplit=1)[0])
            return
        # what was fetched for other tests is not fetched again
        command = ["bash", "-o", "pipefail", "-c", self.here(step.value).replace(" --no-cache-dir", "")]
        environment = {**os.environ, "PATH": self.path, "PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{step.value}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
