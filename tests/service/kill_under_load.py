"""Kills a server under load with SIGKILL at random moments, workers too, and looks whether it kept its word:

- every write that was answered is there: parts of uploads, samples, jobs;
- every job ends, done with its whole result or failed with a reason;
- what came into the workspace is whole (`plankter check`).

    PYTHONPATH=tests python tests/service/kill_under_load.py [--kills 25] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from served import Served

from plankter.client import Client, Unreachable
from plankter.synthetic import simulate_flowcam_run
from plankter.workflow.demo import run_demo
from plankter.workflow.upkeep import check
from plankter.workflow.workspace import open_workspace

PART = 30_000
MAX_OPEN = 4  # jobs that have not ended, so that the end does not take for ever


@dataclass
class Promised:
    """What the server has answered, by the clients that asked; each is written by one thread."""

    bytes: dict[str, int] = field(default_factory=dict)  # upload -> of its one file
    station: int = 0
    station_asked: int = 0
    jobs: dict[str, str] = field(default_factory=dict)  # id -> name of the run that it takes in, or nothing


def workers_of(folder: Path) -> list[int]:
    """Processes of jobs of the workspace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"plankter.service.job_worker" in words and str(folder).encode() in words:
                found.append(int(path.parent.name))
    return found


class Load:
    """Three clients that write, each in a thread, until they are told to stop."""

    def __init__(self, address: str, scratch: Path, seed: int) -> None:
        self.address, self.scratch, self.seed = address, scratch, seed
        self.promised = Promised()
        self.problems: list[BaseException] = []
        self._stop = threading.Event()
        works = (self.send, self.name_stations, self.begin_jobs)
        self._threads = [threading.Thread(target=self._kept_up, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Returns when all have stopped."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _kept_up(self, work: Callable[[Client, int], None]) -> None:
        number = 0
        with Client(self.address) as client:
            while not self._stop.is_set():
                number += 1
                try:
                    work(client, number)
                except Unreachable:
                    self._stop.wait(0.1)
                except Exception as error:  # noqa: BLE001 - told at the end
                    self.problems.append(error)
                    return

    def send(self, client: Client, number: int) -> None:
        """A file in parts, gone on with until it is there."""
        file = self.scratch / f"{number}.bin"
        file.write_bytes(random.Random(number).randbytes(8 * PART + number))
        upload = client.begin_upload()
        while True:
            try:
                client.upload(
                    file, upload_id=upload, part_bytes=PART,
                    progress=lambda name, here, total: self.promised.bytes.__setitem__(upload, here),
                )  # fmt: skip
                return
            except Unreachable:
                if self._stop.wait(0.1):
                    return

    def name_stations(self, client: Client, number: int) -> None:
        """Sample metadata: a station that is a counter."""
        table = f"run,sample,station\ndemo_4x,S,{number}\n".encode()
        self.promised.station_asked = number
        client._server.json("PUT", "/samples", table)
        self.promised.station = number
        self._stop.wait(0.05)

    def begin_jobs(self, client: Client, number: int) -> None:
        """Exports, and every third time a run that is ingested and classified."""
        if sum(job["state"] in ("queued", "running") for job in client.jobs()) >= MAX_OPEN:
            self._stop.wait(0.3)
            return
        if number % 3:
            self.promised.jobs[client.start("export", format="csv")["id"]] = ""
            return
        name = f"run_{self.seed}_{number}"
        made = simulate_flowcam_run(self.scratch / name, name=name, particles=15, seed=1_000 * self.seed + number)
        upload = client.upload(made.folder)
        self.promised.jobs[client.start("analyse", upload=upload)["id"]] = name


def kept(client: Client, promised: Promised) -> list[str]:
    """Words that were not kept, of those that can be told while jobs are not at an end."""
    broken = []
    jobs = list(promised.jobs)  # before the server is asked, as the clients go on
    for upload, size in list(promised.bytes.items()):
        there = sum(client._server.json("GET", f"/uploads/{upload}")["files"].values())
        if there < size:
            broken.append(f"upload {upload}: {size} bytes were answered for, {there} are here")
    low = promised.station
    samples = json.loads(client._server.good("GET", "/api/v1/samples"))
    station = max((int(sample["station"]) for sample in samples if sample["sample_id"] == "S"), default=0)
    if not low <= station <= promised.station_asked:
        broken.append(f"station {low} was answered for, {station} is here")
    known = {job["id"] for job in client.jobs()}
    broken += [f"job {job} is gone" for job in jobs if job not in known]
    return broken


def whole(client: Client, folder: Path, promised: Promised) -> tuple[list[str], dict[str, int]]:
    """Words that were not kept after all jobs had time to end, and jobs by how they ended."""
    states = {"done": 0, "failed": 0}
    until = time.monotonic() + 300
    while any(job["state"] in ("queued", "running") for job in client.jobs()) and time.monotonic() < until:
        time.sleep(0.3)
    broken = kept(client, promised)
    runs = {run["name"]: run for run in client.runs()}
    for listed in client.jobs():
        job = client.job(listed["id"])
        name = promised.jobs.get(job["id"])
        states[job["state"]] = states.get(job["state"], 0) + 1
        if job["state"] == "failed" and "ended from outside" in str(job["reason"]):
            continue  # as honest as it can be
        if job["state"] != "done":
            broken.append(f"job {job['id']} is {job['state']}: {job['reason']}")
        elif job["result"] is None:
            broken.append(f"job {job['id']} is done without a result")
        elif name and (name not in runs or runs[name]["predicted"] != runs[name]["particles"]):
            broken.append(f"job {job['id']} is done, its run {name} is not: {runs.get(name)}")
    for upload, size in promised.bytes.items():
        (file,) = (folder / "uploads" / upload / "data").iterdir()
        if file.read_bytes()[:size] != random.Random(int(file.stem)).randbytes(8 * PART + int(file.stem))[:size]:
            broken.append(f"upload {upload} holds other bytes than were sent")
    with open_workspace(folder) as workspace:
        found: dict[str, Any] = check(workspace)
    broken += [str(problem) for problem in found["problems"]]
    return broken, states


def kill_under_load(scratch: Path, kills: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """Words that were not kept, and jobs by how they ended, with how much else was written.

    Args:
        scratch: an empty folder.
        kills: of the server; every second time its workers are killed, too.
        seed: of the moments.
    """
    folder, chance = scratch / "w", random.Random(seed)
    run_demo(folder, particles=20, seed=3)
    server = Served(folder).start()
    load = Load(server.address, scratch, seed)
    broken: list[str] = []
    try:
        with Client(server.address) as client:
            for number in range(kills):
                time.sleep(chance.uniform(0.1, 2.5))
                server.end(signal.SIGKILL)
                for process in workers_of(folder) if number % 2 else ():
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                server.start()
                broken += [f"after kill {number + 1}: {word}" for word in kept(client, load.promised)]
            load.end()
            broken += [f"a client got {error!r}" for error in load.problems]
            more, states = whole(client, folder, load.promised)
            states |= {"uploads": len(load.promised.bytes), "stations": load.promised.station}
    finally:
        load.end()
        server.end()
    return broken + more, states


def main() -> None:
    """Prints what was not kept; exit status 1 where anything was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plankter-kill-") as scratch:
        broken, states = kill_under_load(Path(scratch), asked.kills, asked.seed)
    print(json.dumps({"kills": asked.kills, "answered": states, "not kept": broken}, indent=1))
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
