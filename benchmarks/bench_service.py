"""What `plankter serve` holds: pages at 100 runs and 1,000,000 particles, many clients at once beside a large zip.

Prints counts and ratios; the engine alone and the server are measured in turns, on the same cores. Clients run in this
process and take their share of the cores, too.

    python benchmarks/bench_service.py IMAGES [--runs 100] [--particles 10000] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

CLIENTS = 50


def fill(folder: Path, runs: int, particles: int) -> None:
    """A catalogue of many runs, without their images: what pages of tables read."""
    from plankter.store.base import ParticleRows
    from plankter.types import Predictions, Run
    from plankter.workflow.workspace import init_workspace, open_workspace

    init_workspace(folder)
    rng = np.random.default_rng(0)
    with open_workspace(folder) as workspace:
        classes = tuple(taxon.class_id for taxon in workspace.catalogue.taxa())
        rows = ParticleRows(
            np.full(particles, 40, np.int32), np.full(particles, 40, np.int32),
            rng.gamma(3, 10, particles).astype(np.float32), rng.gamma(3, 300, particles).astype(np.float32),
            np.ones(particles, bool), np.ones(particles, bool), (None,) * particles,
        )  # fmt: skip
        for number in range(runs):
            run_id = f"{number:016x}"
            workspace.catalogue.put_run(
                Run(run_id, f"station {number % 10}", "flowcam", f"run {number}", "x", 0.55, 0.25), rows
            )
            scores = np.sort(rng.random((particles, 5), np.float32))[:, ::-1] / 5
            best = rng.integers(0, len(classes), (particles, 1)) + np.arange(5)
            workspace.catalogue.put_predictions(
                Predictions(
                    "m" * 16,
                    run_id,
                    "f32",
                    np.arange(particles),
                    classes,
                    (best % len(classes)).astype(np.int16),
                    scores,
                )
            )


class Served:
    """The server as a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "plankter.cli", "serve", "-w", str(folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    async def ready(self) -> None:
        for _ in range(1200):
            try:
                status, _, _ = await request(self.port, "GET", "/ready")
            except OSError:
                status = 0
            if status == 200:
                return
            await asyncio.sleep(0.05)
        raise SystemExit("the server did not start")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class Client:
    """One client with one connection that it keeps, as a script with a session has."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, float, bytes]:
        """One request: status, seconds, body."""
        started = time.perf_counter()
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        found = await self.reader.readexactly(length)
        return int(answer[9:12]), time.perf_counter() - started, found


async def request(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, float, bytes]:
    """One request on a connection of its own."""
    client = Client(port)
    try:
        return await client.ask(method, path, body)
    finally:
        if client.reader is not None:
            client.writer.close()


async def load(port: int, images: list[bytes], seconds: float, per_s: float | None) -> np.ndarray:
    """Latencies of single predictions by 50 clients: as fast as they can, or ``per_s`` in all."""
    found: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        mine = Client(port)
        due = time.perf_counter() + (number / per_s if per_s else 0)
        while due < end and time.perf_counter() < end:
            if per_s:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += CLIENTS / per_s
            image = images[(number * 31 + len(found)) % len(images)]
            status, took, _ = await mine.ask("POST", "/api/v1/predict?scores=false", image)
            assert status == 200, status
            found.append(took)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return np.array(found)


def engine_per_s(images: list[bytes], seconds: float) -> float:
    """Images a second of the engine alone, in a process of its own."""
    code = (
        "import sys, time, json, pathlib\n"
        "from plankter.workflow.engine import load_engine\nfrom plankter.workflow.workspace import find_model\n"
        "images = [p.read_bytes() for p in map(pathlib.Path, json.load(sys.stdin))]\n"
        "engine = load_engine(find_model('flowcam'))\n"
        "engine.run(enumerate(images[:64]), 64, keep_embeddings=False)\n"
        f"done, start = 0, time.perf_counter()\nwhile time.perf_counter() - start < {seconds}:\n"
        "    engine.run(enumerate(images), len(images), keep_embeddings=False); done += len(images)\n"
        "print(done / (time.perf_counter() - start))\n"
    )
    names = json.dumps([str(path) for path in PATHS])
    out = subprocess.run([sys.executable, "-c", code], input=names, capture_output=True, text=True, check=True)
    return float(out.stdout)


PATHS: list[Path] = []


async def pages(port: int, runs: int) -> None:
    """Time of each page, the third time it is asked for."""
    middle = f"{runs // 2:016x}"
    addresses = ["/", "/analyse", "/train", "/transform", "/runs", f"/runs/{middle}", "/models", "/models/flowcam", "/jobs",
                 "/api/v1/runs", f"/api/v1/particles?run_id={middle}&sort=score", "/api/v1/particles?sort=score",
                 f"/api/v1/runs/{middle}/counts"]  # fmt: skip
    _, first, _ = await request(port, "GET", "/")
    print(f"first page after the start: {1e3 * first:.0f} ms")
    slow = 0
    for path in addresses:
        took = []
        for _ in range(5):
            status, seconds, _ = await request(port, "GET", path)
            assert status == 200, (path, status)
            took.append(seconds)
        median = float(np.median(took))
        slow += median > 0.05
        print(f"  {path:<60}{1e3 * median:7.1f} ms (most {1e3 * max(took):.1f})")
    print(f"pages above 50 ms: {slow} of {len(addresses)}")


async def clients(port: int, images: list[bytes], seconds: float) -> None:
    """Throughput beside the engine's, latency at 80 % of it, and latency beside a zip of 2,000 images."""
    await load(port, images, 2, None)
    server, engine = [], []
    for _ in range(2):
        engine.append(engine_per_s(images, seconds / 2))
        server.append(len(await load(port, images, seconds / 2, None)) / (seconds / 2))
    per_s = float(np.mean(server))
    print(
        f"engine alone: {np.mean(engine):.0f} images/s; server, {CLIENTS} clients: {per_s:.0f} ({per_s / np.mean(engine):.2f} of it)"
    )
    took = await load(port, images, seconds, 0.8 * per_s)
    print(
        f"at 80 % of that: median {1e3 * np.median(took):.0f} ms, 99th percentile {1e3 * np.percentile(took, 99):.0f} ms of {len(took)}"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number in range(2000):
            file.writestr(f"{number}.jpg", images[number % len(images)])
    large = asyncio.create_task(request(port, "POST", "/api/v1/predict/zip?scores=false", out.getvalue()))
    beside: list[np.ndarray] = []
    while not large.done():
        beside.append(await load(port, images, 1, 0.3 * per_s))
    status, zip_s, body = await large
    count = len(json.loads(body)["images"]) if status == 200 and body[:1] == b"{" else 0
    waits = np.concatenate(beside)
    print(
        f"zip of 2,000: status {status}, {count} answers in {zip_s:.1f} s; beside it the slowest of {len(waits)} single images: {waits.max():.2f} s"
    )


async def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--particles", type=int, default=10_000, help="of each run")
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    PATHS.extend(sorted(p for p in asked.images.rglob("*") if p.suffix.lower() in (".jpg", ".png"))[:1000])
    images = [path.read_bytes() for path in PATHS]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "w"
        started = time.perf_counter()
        fill(folder, asked.runs, asked.particles)
        print(
            f"{asked.runs} runs, {asked.runs * asked.particles:,} particles made in {time.perf_counter() - started:.0f} s; load of the machine {os.getloadavg()[0]:.1f}"
        )
        served = Served(folder)
        try:
            await served.ready()
            await pages(served.port, asked.runs)
            await clients(served.port, images, asked.seconds)
        finally:
            served.end()


if __name__ == "__main__":
    asyncio.run(main())
