"""What the server counts, in the text format of Prometheus; and one line of JSON a request."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plankter.service.job_worker import memory_mb

if TYPE_CHECKING:
    from plankter.service.state import Service

log = logging.getLogger("plankter.access")
API = "/api/v1"
WRITE_EVERY_S = 0.5
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Requests by method, route and status, and how long they took."""

    def __init__(self) -> None:
        self.started = time.time()
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_S) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        place = bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._requests[method, route, status] += 1
            self._buckets[route][place] += 1
            self._seconds[route] += seconds

    def text(self, service: Service) -> str:
        """All of it, with the state of jobs, models and memory."""
        lines = ["# TYPE plankter_requests_total counter"]
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
        for (method, route, status), count in sorted(requests.items()):
            lines.append(
                f'plankter_requests_total{{method="{method}",route="{_label(route)}",status="{status}"}} {count}'
            )
        lines.append("# TYPE plankter_request_seconds histogram")
        for route, counts in sorted(buckets.items()):
            total = 0
            for edge, count in zip((*(str(e) for e in BUCKETS_S), "+Inf"), counts, strict=True):
                total += count
                lines.append(f'plankter_request_seconds_bucket{{route="{_label(route)}",le="{edge}"}} {total}')
            lines.append(f'plankter_request_seconds_sum{{route="{_label(route)}"}} {seconds[route]:.6f}')
            lines.append(f'plankter_request_seconds_count{{route="{_label(route)}"}} {total}')
        lines.append("# TYPE plankter_jobs gauge")
        states: dict[tuple[str, str], int] = defaultdict(int)
        for job in service.jobs.all():
            states[job.kind, job.state] += 1
        lines += [f'plankter_jobs{{kind="{k}",state="{s}"}} {n}' for (k, s), n in sorted(states.items())]
        for name in ("images", "failures", "batches"):
            lines.append(f"# TYPE plankter_predicted_{name}_total counter")
            for batcher in service.engines.loaded():
                model = _label(batcher.engine.model.name)
                lines.append(f'plankter_predicted_{name}_total{{model="{model}"}} {getattr(batcher.counts, name)}')
        lines.append("# TYPE plankter_waiting_images gauge")
        for batcher in service.engines.loaded():
            lines.append(f'plankter_waiting_images{{model="{_label(batcher.engine.model.name)}"}} {batcher.waiting}')
        lines += ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self.started:.3f}"]
        if (used := memory_mb()) is not None:
            lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {used * 1e6:.0f}"]
        return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Telemetry:
    """Counts and logs each request; outermost, so that refused ones are counted too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self._lines: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            self.write()  # the server ends
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            # the pattern, never the address: that could be anything
            route = getattr(scope.get("route"), "path", "(none)")
            if scope["path"].startswith(API) and not route.startswith(("/api", "(")):
                route = API + route
            self.metrics.add(scope["method"], route, status, seconds)
            # what people call their files is nobody's business
            self._note(scope["method"], scope["path"].partition("/files/")[0], status, seconds)

    def _note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Keeps the line of a request; they are written a few times a second, as each writing costs as much as a request."""
        self._lines.append(
            {"method": method, "path": path, "status": status, "ms": round(1e3 * seconds, 1), "at": time.time()}
        )
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(WRITE_EVERY_S, self.write)

    def write(self) -> None:
        """Writes the lines that are kept."""
        lines, self._lines = self._lines, []
        if lines:
            log.info("%d requests", len(lines), extra={"requests": lines})


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`. A record that carries several requests becomes as many lines."""
        requests = getattr(record, "requests", None)
        if requests is not None:
            return "\n".join(_request_line(record, facts) for facts in requests)
        facts = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname, "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps(facts)  # ASCII: what others send may hold characters that end a line for some readers


def _request_line(record: logging.LogRecord, facts: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(facts["at"]))
    return json.dumps({**facts, "at": at, "level": record.levelname, "logger": record.name})


def log_to(path: Path) -> logging.Handler:
    """A handler that appends to the server's log, four files of 5 MB at most."""
    from logging.handlers import RotatingFileHandler

    class LogFile(RotatingFileHandler):
        def handleError(self, record: logging.LogRecord) -> None:
            if not isinstance(sys.exc_info()[1], OSError):  # a full disk stops nothing, and is said where it matters
                super().handleError(record)

        def close(self) -> None:
            with suppress(OSError):
                super().close()

    path.parent.mkdir(parents=True, exist_ok=True)
    handler = LogFile(path, maxBytes=5_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(JsonLines())
    return handler
