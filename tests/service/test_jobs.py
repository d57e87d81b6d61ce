"""Jobs: they end, or are said to have ended, whatever is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plankter._errors import Conflict, NotFound
from plankter.service.job_runner import MAX_ATTEMPTS, JobRunner
from plankter.service.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Job, JobStore

WORKER = (sys.executable, str(Path(__file__).with_name("slow_worker.py")))


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs")


@pytest.fixture
def runner(store: JobStore, tmp_path: Path) -> Iterator[JobRunner]:
    found = JobRunner(tmp_path, store, {"seconds": 60, "memory_mb": 4000}, WORKER)
    found.start()
    yield found
    for job in store.all():
        if not job.ended:
            found.cancel(job.id)
    until(lambda: all(job.ended for job in store.all()))
    found.stop()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def state(store: JobStore, job: Job) -> str:
    return store.folder(job.id).read().state


def process_of(store: JobStore, job: Job) -> int:
    """The process that works at a job, as its log says."""
    until(lambda: "process " in store.folder(job.id).log_tail())
    return int(store.folder(job.id).log_tail().rsplit("process ", 1)[1].split(")")[0])


def test_a_job_is_done_and_its_result_kept(runner: JobRunner, store: JobStore) -> None:
    job = runner.submit("slow", "quick", {"seconds": 0.3})
    until(lambda: state(store, job) == DONE)
    folder = store.folder(job.id)
    assert folder.result() == {"held": 0} and folder.read().attempts == 1
    assert folder.progress() is not None and "slow begins" in folder.log_tail()
    with pytest.raises(Conflict):
        runner.retry(job.id)


def test_a_job_whose_process_is_killed_begins_again_and_fails_in_the_end(runner: JobRunner, store: JobStore) -> None:
    job = runner.submit("slow", "killed", {"seconds": 30})
    for attempt in range(1, MAX_ATTEMPTS + 1):
        until(lambda attempt=attempt: store.folder(job.id).read().attempts == attempt)  # type: ignore[misc]
        until(lambda attempt=attempt: f"attempt {attempt}" in store.folder(job.id).log_tail())  # type: ignore[misc]
        os.kill(process_of(store, job), signal.SIGKILL)
    until(lambda: state(store, job) == FAILED)
    assert "ended from outside" in str(store.folder(job.id).read().reason)


def test_a_job_goes_on_where_the_server_is_gone_and_the_next_finds_it(store: JobStore, tmp_path: Path) -> None:
    first = JobRunner(tmp_path, store, {}, WORKER)
    first.start()
    running, waiting = first.submit("slow", "one", {"seconds": 3}), None
    until(lambda: state(store, running) == RUNNING)
    first.stop()
    waiting = store.create("slow", "two", {}, {})  # put down just before the end
    assert state(store, waiting) == QUEUED
    second = JobRunner(tmp_path, store, {}, WORKER)
    second.start()
    until(lambda: state(store, running) == DONE and state(store, waiting) == DONE)
    assert store.folder(running.id).read().attempts == 1
    second.stop()


def test_a_job_that_died_while_no_server_ran_begins_again(store: JobStore, tmp_path: Path) -> None:
    first = JobRunner(tmp_path, store, {}, WORKER)
    first.start()
    job = first.submit("slow", "one", {"seconds": 1.5})
    until(lambda: state(store, job) == RUNNING)
    first.stop()
    os.kill(process_of(store, job), signal.SIGKILL)
    second = JobRunner(tmp_path, store, {}, WORKER)
    second.start()
    until(lambda: state(store, job) == DONE)
    assert store.folder(job.id).read().attempts == 2
    second.stop()


def test_cancel_and_again(runner: JobRunner, store: JobStore) -> None:
    job = runner.submit("slow", "long", {"seconds": 60})
    until(lambda: state(store, job) == RUNNING)
    runner.cancel(job.id)
    until(lambda: state(store, job) == CANCELLED)
    runner.retry(job.id)
    until(lambda: state(store, job) == RUNNING)
    runner.cancel(job.id)
    until(lambda: state(store, job) == CANCELLED)
    assert state(store, job) == CANCELLED


def test_a_job_that_waits_is_cancelled_at_once(store: JobStore, tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, store, {}, WORKER)
    job = store.create("slow", "waits", {}, {})
    assert runner.cancel(job.id).state == CANCELLED


def test_a_job_that_takes_too_much_is_ended_and_says_so(store: JobStore, tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, store, {"seconds": 1.0, "memory_mb": 4000}, WORKER)
    runner.start()
    slow = runner.submit("slow", "slow", {"seconds": 60})
    greedy = store.create("slow", "greedy", {"seconds": 60, "mb": 700}, {"memory_mb": 400})
    until(lambda: state(store, slow) == FAILED)
    runner.stop()
    other = JobRunner(tmp_path, store, {}, WORKER)
    other.start()
    until(lambda: state(store, greedy) == FAILED)
    other.stop()
    assert "limit of 1 s" in str(store.folder(slow.id).read().reason)
    assert "MB of memory" in str(store.folder(greedy.id).read().reason)


def test_a_long_job_keeps_no_short_one_waiting(
    runner: JobRunner, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plankter.service import job_runner

    long = [runner.submit("slow", "short", {"seconds": 60}) for _ in range(job_runner.ROOM["short"])]
    until(lambda: all(state(store, job) == RUNNING for job in long))
    monkeypatch.setitem(job_runner.LANES, "slow", "long")  # those that run now count as trainings
    monkeypatch.setitem(job_runner.LANES, "unknown", "short")
    job = runner.submit("unknown", "other", {})
    until(lambda: state(store, job) == FAILED)
    assert "KeyError" in str(store.folder(job.id).read().reason)


@pytest.mark.parametrize("job_id", ["..", "", "20260101-000000-00000000", "../../etc", "x"])
def test_no_id_leads_elsewhere(store: JobStore, job_id: str) -> None:
    with pytest.raises(NotFound):
        store.folder(job_id)


def test_a_damaged_folder_stops_no_other_job(runner: JobRunner, store: JobStore) -> None:
    broken = store.create("slow", "broken", {}, {})
    (store.root / broken.id / "job.json").write_text("{", encoding="utf-8")
    job = runner.submit("slow", "good", {})
    until(lambda: state(store, job) == DONE)
    assert [found.title for found in store.all()] == ["good"]
