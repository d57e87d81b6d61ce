"""Worker processes: the same bytes as without them, whatever becomes of them; none outlives its parent."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from plankter._errors import ImageError
from plankter.readers.base import Portion, RunSource
from plankter.readers.flowcam import FlowCamReader
from plankter.synthetic import simulate_flowcam_run
from plankter.types import Vignette
from plankter.workflow import ingest as ingest_module
from plankter.workflow import workers as workers_module
from plankter.workflow.ingest import ingest
from plankter.workflow.portions import Job, Measured, measure_job, measured_message
from plankter.workflow.workers import Workers
from plankter.workflow.workspace import init_workspace, open_workspace

PARTICLES = 400
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class PlainReader:
    """Vignettes of one grey a particle; what else it does stands in the facts of the portion."""

    def portion_vignettes(self, portion: Portion) -> list[Vignette]:
        facts = portion.facts
        in_worker = os.getpid() != facts["parent"]
        if in_worker and facts.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if facts.get("fail") == "always" or (in_worker and facts.get("fail") == "in a worker"):
            raise ImageError("no pixels today")
        if in_worker:
            print("said aloud")  # must not get between the results
            time.sleep(facts.get("pause", 0))
        image = np.zeros((9, 9, 3), np.uint8)
        image[2:6, 3:8] = 200
        return [Vignette(index, image + np.uint8(index % 50)) for index in range(portion.start, portion.stop)]


def jobs(count: int = 12, each: int = 5, **facts: object) -> list[Job]:
    name = (PlainReader.__module__, PlainReader.__qualname__)
    told = {"parent": os.getpid(), **facts}
    origins = np.full((each, 2), np.nan)
    return [Job(name, Portion(each * i, each * i + each, told), origins, 0.5, 1.0) for i in range(count)]


def said(found: list[Measured]) -> list[object]:
    return [repr(measured_message(one)) for one in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("run")
    return simulate_flowcam_run(to, name="run", particles=PARTICLES, seed=5, classified=True).folder


def wait_for_workers(workers: Workers) -> None:
    """Starts them and lets them say that they are there."""
    workers.start()
    while not all(worker.ready for worker in workers._workers):
        workers._collect({}, [], wait=True)


def archived(folder: Path, run: Path, count: int) -> dict[str, str]:
    """What one ingest leaves in the archive, with so many workers."""
    with open_workspace(init_workspace(folder)) as workspace, closing(Workers(count)) as workers:
        object.__setattr__(workspace, "workers", workers)
        wait_for_workers(workers)
        found, _ = ingest(workspace, [run])
        assert [entry.status for entry in found] == ["ingested"] and found[0].particles == PARTICLES
        root = workspace.archive.root
        files = [path for path in root.rglob("*") if path.is_file() and "lock" not in path.name]
        return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_ingest_leaves_the_same_bytes_with_and_without_workers(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "WORTH_WORKERS", 1)
    without = archived(tmp_path / "0", run, 0)
    assert len(without) == 7
    assert archived(tmp_path / "1", run, 1) == without
    assert archived(tmp_path / "3", run, 3) == without


def test_the_workers_do_most_of_the_work() -> None:
    with closing(Workers(2)) as workers:
        wait_for_workers(workers)
        here: list[int] = []
        original = workers_module.measure_job
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(workers_module, "measure_job", lambda job: here.append(job.portion.start) or original(job))
            found = list(workers.measured(jobs(40, each=60)))
    assert [one.start for one in found] == list(range(0, 2400, 60))
    assert 0 < len(here) < 36


def test_small_runs_and_one_thread_start_no_process(run: Path, tmp_path: Path) -> None:
    with open_workspace(init_workspace(tmp_path / "w")) as workspace:
        ingest(workspace, [run])
        assert not workspace.workers.started
    assert Workers(0).count == 0 and Workers(100).count == workers_module.MOST_WORKERS


def test_a_long_list_starts_them_before_it_is_read_and_the_workspace_ends_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = init_workspace(tmp_path / "w")
    settings = folder / "plankter.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + "\n[compute]\nthreads = 2\n", encoding="utf-8")
    monkeypatch.setattr(ingest_module, "LARGE_LIST_BYTES", 1000)
    with open_workspace(folder) as workspace:
        workers = workspace.workers
        started: list[bool] = []
        original = FlowCamReader.read
        monkeypatch.setattr(FlowCamReader, "read", lambda *given: started.append(workers.started) or original(*given))
        ingest(workspace, [run])
        assert started == [True] and len(workers.process_ids()) == 1
        (process,) = (worker.process for worker in workers._workers)
        workers.close()
        ingest(workspace, [run])  # unchanged: nothing to start them for
        assert not workers.started
    assert process.returncode == 0


def test_a_worker_that_dies_is_replaced_by_this_process(caplog: pytest.LogCaptureFixture) -> None:
    expected = said(list(map(measure_job, jobs())))
    with closing(Workers(2)) as workers, caplog.at_level(logging.WARNING):
        wait_for_workers(workers)
        assert said(list(workers.measured(jobs(die=True)))) == expected
        assert "a worker process ended (status -9); its share is done here" in caplog.text
        assert not workers.started
        assert said(list(workers.measured(jobs()))) == expected


def test_a_worker_that_dies_in_the_middle_of_an_ingest(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "WORTH_WORKERS", 1)
    without = archived(tmp_path / "0", run, 0)
    original = Workers._hand_out

    def deadly(self: Workers, given: list[Job], following: int, last: int) -> int:
        following = original(self, given, following, last)
        for worker in self._workers:
            os.kill(worker.process.pid, signal.SIGKILL)
        return following

    monkeypatch.setattr(Workers, "_hand_out", deadly)
    assert archived(tmp_path / "1", run, 1) == without


def test_a_worker_that_never_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_BOOT", "raise SystemExit(3)")
    with closing(Workers(1)) as workers:
        assert said(list(workers.measured(jobs()))) == said(list(map(measure_job, jobs())))


def test_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refused(*_given: object, **_named: object) -> None:
        raise OSError("out of processes")

    monkeypatch.setattr(workers_module.subprocess, "Popen", refused)
    with closing(Workers(1)) as workers:
        assert said(list(workers.measured(jobs()))) == said(list(map(measure_job, jobs())))
    assert "out of processes" in caplog.text


def test_a_worker_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Workers(1)) as workers:
        wait_for_workers(workers)
        monkeypatch.setattr(workers_module, "PATIENCE_S", 0.2)
        assert said(list(workers.measured(jobs(pause=60)))) == said(list(map(measure_job, jobs())))


def test_what_fails_in_a_worker_is_tried_again_here() -> None:
    with closing(Workers(2)) as workers:
        wait_for_workers(workers)
        found = list(workers.measured(jobs(fail="in a worker")))
        assert said(found) == said(list(map(measure_job, jobs())))
        with pytest.raises(ImageError, match="no pixels today"):
            list(workers.measured(jobs(fail="always")))


def test_work_that_is_broken_off_leaves_nothing_for_the_next() -> None:
    with closing(Workers(2)) as workers:
        wait_for_workers(workers)
        broken = workers.measured(jobs(30, each=50))
        next(broken)
        broken.close()
        assert said(list(workers.measured(jobs()))) == said(list(map(measure_job, jobs())))


def test_two_threads_at_once() -> None:
    expected = said(list(map(measure_job, jobs())))
    with closing(Workers(1)) as workers:
        wait_for_workers(workers)
        first = workers.measured(jobs())
        assert said([next(first)]) == expected[:1]
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend(said(list(workers.measured(jobs())))))
        thread.start()
        thread.join()
        assert found == expected and said(list(first)) == expected[1:]


def test_idle_workers_end_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "IDLE_S", 0.01)
    with closing(Workers(1)) as workers:
        list(workers.measured(jobs(2)))
        until = time.monotonic() + 20
        while workers.started and time.monotonic() < until:
            time.sleep(0.01)
        assert not workers.started
        wait_for_workers(workers)


def test_an_ingest_with_workers_that_is_killed_ends_as_a_clean_one(tmp_path: Path) -> None:
    big = simulate_flowcam_run(tmp_path / "in", name="big", particles=1100, seed=8, classified=True).folder

    def workspace(name: str) -> tuple[Path, list[str]]:
        folder = init_workspace(tmp_path / name)
        settings = folder / "plankter.toml"
        settings.write_text(settings.read_text(encoding="utf-8") + "\n[compute]\nthreads = 3\n", encoding="utf-8")
        return folder, [sys.executable, "-m", "plankter.cli", "ingest", str(big), "-w", str(folder)]

    def contents(folder: Path) -> dict[str, str]:
        found = [p for p in (folder / "archive").rglob("*") if p.is_file() and "lock" not in p.name]
        return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}

    clean, command = workspace("clean")
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - started
    killed, command = workspace("killed")
    rng, hits = random.Random(3), 0
    for _ in range(8):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.3, 1) * seconds)
            hits += process.poll() is None
            process.kill()
        with open_workspace(killed) as opened:
            assert [record.particles for record in opened.catalogue.runs()] in ([], [1100])
            run_ids = opened.archive.run_ids()
            if run_ids and rng.random() < 0.7:  # begin again, so that every phase is hit
                if opened.catalogue.runs():
                    opened.catalogue.remove_run(run_ids[0])
                opened.archive.remove(run_ids[0])
    assert hits
    subprocess.run(command, check=True, capture_output=True)
    assert contents(killed) == contents(clean)


PARENT = """
import signal, sys, time
# a shell starts what runs in its background with this signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from plankter.workflow.workers import Workers
workers = Workers(2)
workers.start()
while not all(worker.ready for worker in workers._workers):
    workers._collect({}, [], wait=True)
print(*workers.process_ids(), flush=True)
time.sleep(60)
"""


def gone(process_id: int) -> bool:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"  # dead, not yet fetched by whoever inherited it


@LINUX
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [int(text) for text in parent.stdout.readline().split()]
        assert len(workers) == 2 and not any(map(gone, workers))
        parent.send_signal(how)
        parent.wait(20)
    until = time.monotonic() + 20
    while not all(map(gone, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert all(map(gone, workers))


@LINUX
def test_workers_hold_no_file_of_their_parent(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as held, closing(Workers(2)) as workers:
        os.set_inheritable(held.fileno(), True)
        wait_for_workers(workers)
        for worker in workers.process_ids():
            open_files = [str(path.readlink()) for path in Path(f"/proc/{worker}/fd").iterdir()]
            assert not [name for name in open_files if str(tmp_path) in name]
            assert sum(name.startswith("pipe:") for name in open_files) <= 4


def test_the_measures_do_not_depend_on_the_portion(run: Path) -> None:
    (identity,) = run.glob("*.lst")
    reader, source = FlowCamReader(), RunSource("flowcam", identity, str(identity))
    read = reader.read(source)
    portions = reader.portions(source, read.particles)
    assert portions is not None and len(portions) > 1
    name = (FlowCamReader.__module__, FlowCamReader.__qualname__)
    origins = np.stack([read.particles.features[axis] for axis in ("src_x", "src_y")], axis=1)
    made = [Job(name, part, origins[part.start : part.stop], read.run.um_per_px, 1.0) for part in portions]
    whole = measure_job(made[0]).values
    half = (portions[0].stop - portions[0].start) // 2
    vignettes = reader.portion_vignettes(portions[0])
    for start, stop in ((0, half), (half, len(vignettes))):
        part = ingest_module.measure_vignettes(
            start, vignettes[start:stop], origins[start:stop], read.run.um_per_px, 1.0
        )
        assert np.array_equal(part.values, whole[start:stop], equal_nan=True)
