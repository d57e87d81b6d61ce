"""Single images of many: which go together, who is answered, and the short way before the framework."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from plankter.service import predicting
from plankter.service.app import create_app
from plankter.service.predicting import BATCH, Batcher, Busy
from plankter.service.quick import plain_query
from plankter.service.state import Limits

HERE = "http://127.0.0.1:8000"


def png(seed: int) -> bytes:
    """A grey picture of a dark disk."""
    image = np.full((48, 48), 200, np.uint8)
    cv2.circle(image, (24, 24), 8 + seed, 40, -1)
    return bytes(cv2.imencode(".png", image)[1])


class SlowEngine:
    """Says of each image the number that it holds; works only as long as ``go`` lets it."""

    def __init__(self, threads: int = 2) -> None:
        self.model = SimpleNamespace(name="slow", class_ids=("a",))
        self.threads = threads
        self.predictor = SimpleNamespace(words=lambda outcome, reason: ("a", ""))
        self.batches: list[list[bytes]] = []
        self.go, self.began = threading.Semaphore(0), threading.Semaphore(0)

    def run(self, items: Any, total: int, **options: Any) -> Any:
        images = [data for _, data in items]
        self.batches.append(images)
        self.began.release()
        assert self.go.acquire(timeout=30)
        if b"broken" in images:
            raise RuntimeError("the network broke")
        good = [n for n, data in enumerate(images) if data != b"bad"]
        numbers = np.array([[int(images[n])] for n in good], np.float32).reshape(-1, 1)
        zeros = np.zeros(len(good), np.int16)
        return SimpleNamespace(
            index=np.array(good), failures={n: "bad" for n, data in enumerate(images) if data == b"bad"},
            best=zeros.reshape(-1, 1), scores=numbers, outcome=zeros, reason=zeros,
        )  # fmt: skip


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


def batcher_of(engine: SlowEngine) -> Batcher:
    return Batcher(engine)  # type: ignore[arg-type]


def numbers(found: list[Any]) -> list[int]:
    return [int(prediction.scores[0]) for prediction in found]


def test_what_comes_while_a_batch_is_in_work_goes_together(engine: SlowEngine) -> None:
    batcher = batcher_of(engine)
    first = batcher.submit(b"0")
    engine.began.acquire()
    more = [batcher.submit(str(n).encode()) for n in range(1, 6)]
    engine.go.release(2)
    assert numbers([future.result(30) for future in (first, *more)]) == [0, 1, 2, 3, 4, 5]
    assert engine.batches == [[b"0"], [b"1", b"2", b"3", b"4", b"5"]]
    batcher.close()


def test_a_full_batch_does_not_wait_for_another(engine: SlowEngine) -> None:
    batcher = batcher_of(engine)
    batcher.submit(b"0")
    engine.began.acquire()
    full = [batcher.submit(str(n).encode()) for n in range(BATCH)]
    assert engine.began.acquire(timeout=30)  # the second thread has taken it, the first is still at it
    assert [len(batch) for batch in engine.batches] == [1, BATCH]
    engine.go.release(2)
    assert numbers([future.result(30) for future in full]) == list(range(BATCH))
    batcher.close()


def test_single_images_come_before_those_of_a_large_set(engine: SlowEngine) -> None:
    engine.threads = 1
    batcher = batcher_of(engine)

    async def ask() -> list[list[int]]:
        large = asyncio.create_task(batcher.predict([str(n).encode() for n in range(5 * BATCH)], patient=True))
        for _ in range(len(batcher._threads)):
            await asyncio.to_thread(engine.began.acquire)
        single = asyncio.create_task(batcher.predict([b"777"]))
        await asyncio.sleep(0.05)
        engine.go.release(100)
        return [numbers(await single), numbers(await large)]

    single, large = asyncio.run(ask())
    assert single == [777] and large == list(range(5 * BATCH))
    place = next(n for n, batch in enumerate(engine.batches) if b"777" in batch)
    assert place == len(batcher._threads)  # the first that was taken after it came
    batcher.close()


def test_one_broken_batch_is_told_to_those_in_it_only(engine: SlowEngine) -> None:
    batcher = batcher_of(engine)
    engine.go.release(100)

    async def ask() -> list[Any]:
        found: list[Any] = await asyncio.gather(batcher.predict([b"broken"] * 3 * BATCH), return_exceptions=True)
        return [*found, await batcher.predict([b"4", b"bad"])]

    error, good = asyncio.run(ask())
    assert isinstance(error, RuntimeError)
    assert int(good[0].scores[0]) == 4 and good[1].failure == "bad"
    assert batcher.counts.failures == 1
    batcher.close()


def test_nobody_waits_for_who_has_gone(engine: SlowEngine) -> None:
    batcher = batcher_of(engine)

    async def ask() -> None:
        first = asyncio.create_task(batcher.predict([b"1"]))
        await asyncio.to_thread(engine.began.acquire)
        gone = asyncio.create_task(batcher.predict([b"2"]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        kept = asyncio.create_task(batcher.predict([b"3"]))
        await asyncio.sleep(0)
        engine.go.release(100)
        assert numbers(await kept) == [3] and numbers(await first) == [1]

    asyncio.run(ask())
    assert engine.batches == [[b"1"], [b"3"]]
    batcher.close()


def test_too_many_and_closed_are_busy(engine: SlowEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "WAITING_AT_MOST", 2)
    batcher = batcher_of(engine)
    waiting = [batcher.submit(b"1")]
    engine.began.acquire()
    waiting += [batcher.submit(b"2"), batcher.submit(b"3")]
    with pytest.raises(Busy):
        batcher.submit(b"4")
    engine.go.release(100)
    batcher.close()
    assert numbers([future.result(30) for future in waiting]) == [1, 2, 3]  # what waits is finished
    with pytest.raises(Busy):
        batcher.submit(b"5")


def test_busy_is_told_as_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.post("/api/v1/predict", content=png(1)).status_code == 200
    monkeypatch.setattr(predicting, "WAITING_AT_MOST", 0)
    for query in ("", "?scores=1"):
        answer = client.post(f"/api/v1/predict{query}", content=png(1))
        assert answer.status_code == 503 and answer.json()["code"] == "busy"


# -- the short way
@pytest.mark.parametrize(("query", "expected"), [
    (b"", (None, 5, True)), (b"scores=false", (None, 5, False)), (b"model=a%20b&top=7", ("a b", 7, True)),
    (b"top=0", None), (b"top=1001", None), (b"top=-1", None), (b"top=x", None), (b"top=%D9%A3", None), (b"top=", None),
    (b"scores=1", None), (b"top=1&top=2", None), (b"other=1", None), (b"model=" + b"x" * 201, None), (b"top=1e2", None),
])  # fmt: skip
def test_plain_queries(query: bytes, expected: Any) -> None:
    assert plain_query(query) == expected


@pytest.mark.parametrize(("short", "long"), [
    ("", "?scores=1"), ("?top=3&scores=false", "?top=3&scores=0"), ("?model=flowcam&top=95", "?model=flowcam&top=95&scores=yes"),
    ("?model=nothing", "?model=nothing&scores=1"),
])  # fmt: skip
def test_both_ways_give_the_same_answer(client: TestClient, short: str, long: str) -> None:
    for body in (png(1), png(2), b"no image", b""):
        one, other = (client.post(f"/api/v1/predict{query}", content=body) for query in (short, long))
        assert one.json() == other.json() and one.status_code == other.status_code
        for name in ("content-type", "cache-control", "content-security-policy", "x-content-type-options"):
            assert one.headers[name] == other.headers[name]


def test_the_short_way_keeps_limits_and_guards(demo_workspace: Path) -> None:
    with TestClient(create_app(demo_workspace, limits=Limits(body_bytes=1_000)), base_url=HERE) as client:
        for query in ("", "?scores=1"):
            answer = client.post(f"/api/v1/predict{query}", content=b"x" * 1_001)
            assert answer.status_code == 413 and answer.json()["hint"]
        assert client.post("/api/v1/predict", headers={"Host": "evil.example"}, content=png(1)).status_code == 421
        assert (
            client.post("/api/v1/predict", headers={"Origin": "http://evil.example"}, content=png(1)).status_code == 403
        )
        assert client.get("/api/v1/predict").status_code == 405
    with TestClient(create_app(demo_workspace, loopback=False), base_url="http://lab.example") as client:
        assert client.post("/api/v1/predict", content=png(1)).status_code == 401


def test_both_ways_are_counted_as_one_route_and_logged(client: TestClient) -> None:
    def count() -> int:
        lines = re.findall(
            r'requests_total\{method="POST",route="/api/v1/predict",status="200"\} (\d+)', client.get("/metrics").text
        )
        return int(lines[0])

    client.post("/api/v1/predict", content=png(1))
    before = count()
    client.post("/api/v1/predict", content=png(1))
    client.post("/api/v1/predict?scores=1", content=png(1))
    assert count() == before + 2


def test_the_log_has_a_line_for_each_request(serve: Any, demo_workspace: Path) -> None:
    import urllib.request

    log = demo_workspace / "service" / "server.log"
    before = log.read_text(encoding="utf-8").count("\n") if log.exists() else 0
    server = serve(demo_workspace)
    for path in ("/health?a=1", "/runs", '/"x', "/%C2%85%E2%80%A8"):
        try:
            urllib.request.urlopen(server.address + path.replace('"', "%22")).close()
        except urllib.error.HTTPError as error:
            error.close()
    server.end()  # at once: what has not been written yet is written then
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[before:]]
    asked = [line for line in lines if "path" in line and line["path"] != "/ready"]  # asked until it was
    assert [(line["method"], line["path"], line["status"]) for line in asked] == [
        ("GET", "/health", 200), ("GET", "/runs", 200), ("GET", '/"x', 404),
        ("GET", "/\x85\u2028", 404),  # two ends of a line in one path
    ]  # fmt: skip
    assert all(line["logger"] == "plankter.access" and line["at"] and line["ms"] >= 0 for line in asked)
