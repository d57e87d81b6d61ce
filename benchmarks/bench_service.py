"""What `plankter serve` holds: pages at 100 runs and 1,000,000 particles, many clients at once beside a large zip.

Prints counts and ratios; the engine alone and the server are measured in turns, on the same cores. The 50 clients are plain
sockets of this process on the same cores: what they take of them is told (CPU per request) and counts against the server.

    python benchmarks/bench_service.py IMAGES [--runs 100] [--particles 10000] [--seconds 10]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
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

    def ready(self) -> None:
        for _ in range(1200):
            try:
                if request(self.port, "GET", "/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("the server did not start")

    def cpu_s(self) -> float:
        """CPU seconds that the server has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, float, bytes]:
    """One request on a connection of its own: status, seconds, body."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        found = answer.read()
    finally:
        connection.close()
    return answer.status, time.perf_counter() - started, found


class Line:
    """One client with one connection that it keeps, as a script with a session has."""

    def __init__(self, port: int, due: float) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due, self.sent, self.left, self.head = due, 0.0, -1, b""

    def came(self) -> bool:
        """Takes what has come; whether the answer is whole."""
        data = self.socket.recv(65536)
        assert data, "the server closed the connection"
        if self.left < 0:
            self.head += data
            head, found, rest = self.head.partition(b"\r\n\r\n")
            if not found:
                return False
            assert head[9:12] == b"200", head
            self.left = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]) - len(rest)
        else:
            self.left -= len(data)
        if self.left > 0:
            return False
        self.left, self.head, self.sent = -1, b"", 0.0
        return True


@dataclass
class Load:
    """Latencies, and CPU seconds a request of server and clients."""

    seconds: np.ndarray
    wall_s: float
    server_cpu_s: float
    client_cpu_s: float

    @property
    def per_s(self) -> float:
        return len(self.seconds) / self.wall_s

    def cpu(self) -> str:
        n = len(self.seconds)
        return f"{1e3 * self.server_cpu_s / n:.2f} ms server + {1e3 * self.client_cpu_s / n:.2f} ms client"


def load(served: Served, images: list[bytes], seconds: float, per_s: float | None) -> Load:
    """Single predictions by 50 clients: as fast as they can, or ``per_s`` in all."""
    head = f"POST /api/v1/predict?scores=false HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: "
    requests = [f"{head}{len(image)}\r\n\r\n".encode() + image for image in images]
    start, cpu, own = time.perf_counter(), served.cpu_s(), time.process_time()
    end = start + seconds
    lines = [Line(served.port, start + (number / per_s if per_s else 0)) for number in range(CLIENTS)]
    waiting = selectors.DefaultSelector()
    for line in lines:
        waiting.register(line.socket, selectors.EVENT_READ, line)
    found: list[float] = []
    busy, asked = 0, 0
    while True:
        now = time.perf_counter()
        for line in lines:
            if not line.sent and line.due <= now < end:
                line.sent = max(line.due, now) if per_s is None else line.due  # what waits for its turn is late already
                line.due += CLIENTS / per_s if per_s else 0
                line.socket.sendall(requests[(asked * 31) % len(requests)])
                asked += 1
                busy += 1
        if not busy and now >= end:
            break
        free = [line.due for line in lines if not line.sent]
        for key, _ in waiting.select(max(0.0, min(free, default=now + 1) - now) if now < end else 1):
            sent = key.data.sent
            if key.data.came():
                found.append(time.perf_counter() - sent)
                busy -= 1
    for line in lines:
        line.socket.close()
    waiting.close()
    return Load(
        np.array(found), time.perf_counter() - start, served.cpu_s() - cpu, time.process_time() - own
    )  # fmt: skip


def engine_alone(seconds: float) -> tuple[float, float]:
    """Images a second of the engine alone, in a process of its own, and its CPU seconds an image."""
    code = (
        "import sys, time, json, pathlib\n"
        "from plankter.workflow.engine import load_engine\nfrom plankter.workflow.workspace import find_model\n"
        "images = [p.read_bytes() for p in map(pathlib.Path, json.load(sys.stdin))]\n"
        "engine = load_engine(find_model('flowcam'))\n"
        "engine.run(enumerate(images[:64]), 64, keep_embeddings=False)\n"
        f"done, start, cpu = 0, time.perf_counter(), time.process_time()\nwhile time.perf_counter() - start < {seconds}:\n"
        "    engine.run(enumerate(images), len(images), keep_embeddings=False); done += len(images)\n"
        "print(done / (time.perf_counter() - start), (time.process_time() - cpu) / done)\n"
    )
    names = json.dumps([str(path) for path in PATHS])
    out = subprocess.run([sys.executable, "-c", code], input=names, capture_output=True, text=True, check=True)
    per_s, cpu_s = map(float, out.stdout.split())
    return per_s, cpu_s


PATHS: list[Path] = []


def pages(port: int, runs: int) -> None:
    """Time of each page, the third time it is asked for."""
    middle = f"{runs // 2:016x}"
    addresses = ["/", "/analyse", "/train", "/transform", "/runs", f"/runs/{middle}", "/models", "/models/flowcam", "/jobs",
                 "/api/v1/runs", f"/api/v1/particles?run_id={middle}&sort=score", "/api/v1/particles?sort=score",
                 f"/api/v1/runs/{middle}/counts"]  # fmt: skip
    _, first, _ = request(port, "GET", "/")
    print(f"first page after the start: {1e3 * first:.0f} ms")
    slow = 0
    for path in addresses:
        took = []
        for _ in range(5):
            status, seconds, _ = request(port, "GET", path)
            assert status == 200, (path, status)
            took.append(seconds)
        median = float(np.median(took))
        slow += median > 0.05
        print(f"  {path:<60}{1e3 * median:7.1f} ms (most {1e3 * max(took):.1f})")
    print(f"pages above 50 ms: {slow} of {len(addresses)}")


def clients(served: Served, images: list[bytes], seconds: float) -> None:
    """Throughput beside the engine's, latency at 80 % of it, and latency beside a zip of 2,000 images."""
    load(served, images, 2, None)
    turns, engine = [], []
    for _ in range(3):
        engine.append(engine_alone(seconds / 3))
        turns.append(load(served, images, seconds / 3, None))
    alone, cpu = np.mean(engine, axis=0)
    per_s = float(np.mean([turn.per_s for turn in turns]))
    print(f"engine alone: {alone:.0f} images/s, {1e3 * cpu:.2f} ms CPU an image")
    print(
        f"server, {CLIENTS} clients: {per_s:.0f} images/s, {per_s / alone:.2f} of it; CPU a request: {turns[1].cpu()}"
    )
    at80 = load(served, images, seconds, 0.8 * per_s)
    took = 1e3 * np.percentile(at80.seconds, (50, 99))
    print(f"at 80 % of that: median {took[0]:.0f} ms, 99th percentile {took[1]:.0f} ms of {len(at80.seconds)}")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number in range(2000):
            file.writestr(f"{number}.jpg", images[number % len(images)])
    answers: list[tuple[int, float, bytes]] = []
    address = "/api/v1/predict/zip?scores=false"
    large = threading.Thread(target=lambda: answers.append(request(served.port, "POST", address, out.getvalue())))
    large.start()
    beside: list[np.ndarray] = []
    while large.is_alive():
        beside.append(load(served, images, 1, 0.3 * per_s).seconds)
    status, zip_s, body = answers[0]
    count = len(json.loads(body)["images"]) if status == 200 and body[:1] == b"{" else 0
    waits = np.concatenate(beside)
    print(
        f"zip of 2,000: status {status}, {count} answers in {zip_s:.1f} s; beside it the slowest of {len(waits)} single images: {waits.max():.2f} s"
    )


def main() -> None:
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
            served.ready()
            pages(served.port, asked.runs)
            clients(served, images, asked.seconds)
        finally:
            served.end()


if __name__ == "__main__":
    main()
