"""What every route works with: the workspace, its jobs and uploads, the loaded models, the templates."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from plankter._errors import NotFound
from plankter.service.access import Access
from plankter.service.cards import card_page
from plankter.service.job_runner import JobRunner
from plankter.service.jobs import JobStore
from plankter.service.metrics import Metrics
from plankter.service.predicting import Batcher, Engines
from plankter.service.sources import Sources, allowed_sources
from plankter.service.tries import Tries
from plankter.service.try_runs import TryRuns
from plankter.service.uploads import UploadLimits, UploadStore
from plankter.service.words import FILTERS
from plankter.types import Taxon
from plankter.workflow.mlflow_registry import tracking_uri
from plankter.workflow.models import list_models
from plankter.workflow.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from plankter.service.analysis import Analysis

KNOWN_S = 5.0
ANALYSES_KNOWN = 6


@dataclass(frozen=True)
class Limits:
    """What the server takes on; see docs/serve.md."""

    upload: UploadLimits = field(default_factory=UploadLimits)
    body_bytes: int = 200_000_000  # of a request that is answered at once
    images_at_once: int = 2_000
    try_images: int = 2_000
    try_bytes: int = 300_000_000
    job_seconds: float = 7 * 86400
    job_memory_mb: float = 16_000
    roots: tuple[Path, ...] = ()  # folders that may be read beside uploads
    remote: tuple[str, ...] = ()  # hosts that may be fetched from


@dataclass
class Service:
    """The server's state; made by `running`."""

    workspace: Workspace
    limits: Limits
    access: Access
    metrics: Metrics
    jobs: JobStore
    runner: JobRunner
    uploads: UploadStore
    engines: Engines
    tries: Tries
    templates: Environment
    sources: Sources
    try_runs: TryRuns
    ready: bool = True
    _analyses: OrderedDict[tuple[object, ...], Analysis] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)
    _taxa: tuple[float, dict[str, Taxon]] = field(default_factory=lambda: (0.0, {}))
    _batchers: dict[str | None, tuple[float, Batcher]] = field(default_factory=dict)

    def page(self, request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
        """A page or a part of one from a template."""
        here = request.url.path
        text = self.templates.get_template(template).render(
            here=here, status=status, loopback=self.access.loopback, sources=self.sources, mlflow=tracking_uri() is not None, **values
        )  # fmt: skip
        return HTMLResponse(text, status)

    def models(self) -> list[dict[str, Any]]:
        """The models there are now; jobs of other processes add some."""
        found: list[dict[str, Any]] = list_models(self.workspace)["models"]
        return found

    def model_key(self, name: str) -> str:
        """What `find_model` finds the model of that name or id by; folders and addresses are not taken from outside.

        Raises:
            NotFound: there is none.
        """
        for model in self.models():
            if name in (model["name"], model["model_id"]):
                return str(model["name"] if model["source"] == "built-in" else model["model_id"])
        raise NotFound(
            f"no model {name[:100]!r}", hint=f"there are: {', '.join(str(m['name']) for m in self.models())}"
        )

    def taxa(self) -> dict[str, Taxon]:
        """The class list by class_id; read again after a few seconds."""
        at, found = self._taxa
        if time.monotonic() - at > KNOWN_S or not found:
            found = {taxon.class_id: taxon for taxon in self.workspace.catalogue.taxa()}
            self._taxa = time.monotonic(), found
        return found

    def loaded_batcher(self, name: str | None) -> Batcher | None:
        """As `batcher`, where no disk is needed for it; else None."""
        at, batcher = self._batchers.get(name) or (0.0, None)
        return batcher if time.monotonic() - at < KNOWN_S and batcher and not batcher.closed else None

    def batcher(self, name: str | None) -> Batcher:
        """The loaded model of a name or id; that of the workspace where none is given.

        Raises:
            NotFound: there is none. ModelError: it cannot be loaded.
        """
        found = self.engines.get(self.model_key(name or str(self.workspace.settings["classify.model"])))
        if len(self._batchers) > 100:
            self._batchers.clear()
        self._batchers[name] = time.monotonic(), found
        return found

    def remembered(self, key: tuple[object, ...], make: Callable[[], Analysis]) -> Analysis:
        """An analysis, made once while others are not asked for in between."""
        with self._lock:
            if key in self._analyses:
                self._analyses.move_to_end(key)
                return self._analyses[key]
            found = self._analyses[key] = make()
            while len(self._analyses) > ANALYSES_KNOWN:
                self._analyses.popitem(last=False)
        return found


def templates() -> Environment:
    """The templates; what is put into them is escaped, and a name that is missing is an error."""
    found = Environment(
        loader=PackageLoader("plankter.service"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters.update(FILTERS, card=card_page)
    found.globals["version"] = version("plankter")
    return found


@contextmanager
def running(folder: Path, access: Access, limits: Limits, metrics: Metrics) -> Iterator[Service]:
    """The state of a server on the workspace in ``folder``; its jobs are taken up, and left to their processes at the
    end."""
    with ExitStack() as stack:
        workspace = stack.enter_context(open_workspace(folder))
        jobs = JobStore(workspace.folder / "jobs")
        sources = allowed_sources(limits.roots, limits.remote, limits.upload)
        runner = JobRunner(
            workspace.folder, jobs, {"seconds": limits.job_seconds, "memory_mb": limits.job_memory_mb},
            environment=sources.environment(),
        )  # fmt: skip
        uploads = UploadStore(workspace.folder / "uploads", limits.upload)
        uploads.root.mkdir(parents=True, exist_ok=True)
        used = {str(job.arguments.get(name)) for job in jobs.all() for name in ("upload", "like_upload")}
        uploads.sweep(used)
        engines = Engines(workspace)
        stack.callback(engines.close)
        service = Service(
            workspace, limits, access, metrics, jobs, runner, uploads, engines,
            Tries(limits.try_images, limits.try_bytes), templates(), sources, TryRuns(jobs, runner, uploads),
        )  # fmt: skip
        runner.start()
        stack.callback(runner.stop)
        service.try_runs.start()
        stack.callback(service.try_runs.stop)
        yield service
        service.ready = False
