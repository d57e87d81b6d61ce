"""Single images of many clients through one loaded model: what waits while the network works is taken as one batch."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plankter._errors import PlankterError
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.workspace import Workspace, find_model

log = logging.getLogger(__name__)
BATCH = 32
AT_ONCE = 2
LOADED_AT_MOST = 3
WAITING_AT_MOST = 20_000
KNOWN_S = 10.0  # that a name is taken to mean the same model


class Busy(PlankterError):
    """More images wait than can be predicted soon."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: positions of all classes, best first, with scores; or why it cannot say."""

    best: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    decision: str
    reason: str
    failure: str | None = None


_NONE = Prediction(np.zeros(0, np.int16), np.zeros(0, np.float32), "", "")


@dataclass
class Counts:
    """What a batcher has done so far."""

    images: int = 0
    failures: int = 0
    batches: int = 0


class Batcher:
    """One model and the threads that run it. Single images come before those of large sets."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.counts = engine, Counts()
        self._queues: tuple[deque[tuple[bytes, Future[Prediction]]], ...] = (deque(), deque())
        self._wake = threading.Condition()
        self.closed = False
        name = f"predict {engine.model.name}"
        # one batch is decoded and answered while the other is in the network
        self._threads = [threading.Thread(target=self._loop, daemon=True, name=name) for _ in range(AT_ONCE)]
        for thread in self._threads:
            thread.start()

    def submit(self, image: bytes, *, patient: bool = False) -> Future[Prediction]:
        """An encoded image into the queue; ``patient`` for one of many.

        Raises:
            Busy: too many wait.
        """
        future: Future[Prediction] = Future()
        with self._wake:
            if len(self._queues[patient]) >= WAITING_AT_MOST or self.closed:
                raise Busy("too many images wait to be predicted", hint="try again in a minute")
            self._queues[patient].append((image, future))
            self._wake.notify()
        return future

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues)

    def close(self) -> None:
        """Finishes what waits, then ends."""
        with self._wake:
            self.closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _take(self) -> list[tuple[bytes, Future[Prediction]]]:
        with self._wake:
            while not self.waiting and not self.closed:
                self._wake.wait()
            taken: list[tuple[bytes, Future[Prediction]]] = []
            for queue in self._queues:
                while queue and len(taken) < BATCH:
                    taken.append(queue.popleft())
            return taken

    def _loop(self) -> None:
        while taken := self._take():
            wanted = [(image, future) for image, future in taken if future.set_running_or_notify_cancel()]
            try:
                found = self._predict([image for image, _ in wanted])
            except Exception as error:
                log.exception("a batch of %d images", len(wanted))
                for _, future in wanted:
                    future.set_exception(error)
                continue
            with self._wake:
                self.counts.batches += 1
                self.counts.images += len(found)
                self.counts.failures += sum(prediction.failure is not None for prediction in found)
            for (_, future), prediction in zip(wanted, found, strict=True):
                future.set_result(prediction)

    def _predict(self, images: Sequence[bytes]) -> list[Prediction]:
        engine = self.engine
        k = len(engine.model.class_ids)
        result = engine.run(enumerate(images), len(images), k=k, keep_embeddings=False)
        found = [_NONE] * len(images)
        for number, why in result.failures.items():
            found[number] = Prediction(_NONE.best, _NONE.scores, "", "", why)
        for row, number in enumerate(result.index.tolist()):
            words = engine.predictor.words(int(result.outcome[row]), int(result.reason[row]))
            found[number] = Prediction(result.best[row], result.scores[row], *words)
        return found


class Engines:
    """The models that are loaded, those used last."""

    def __init__(self, workspace: Workspace | None) -> None:
        self._workspace = workspace
        self._loaded: OrderedDict[str, Batcher] = OrderedDict()
        self._names: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Batcher:
        """A model by name or id; it is loaded where it is not.

        Raises:
            NotFound: no such model. ModelError: it cannot be loaded.
        """
        with self._lock:
            known = self._names.get(name)
            if known is not None and known[0] in self._loaded and time.monotonic() - known[1] < KNOWN_S:
                self._loaded.move_to_end(known[0])
                return self._loaded[known[0]]
        model = find_model(name, self._workspace)
        with self._lock:
            self._names[name] = model.model_id, time.monotonic()
            found = self._loaded.get(model.model_id)
            if found is None:
                found = self._loaded[model.model_id] = Batcher(load_engine(model, self._workspace))
            self._loaded.move_to_end(model.model_id)
            old = [self._loaded.popitem(last=False)[1] for _ in range(len(self._loaded) - LOADED_AT_MOST)]
        for batcher in old:
            threading.Thread(target=batcher.close, daemon=True).start()
        return found

    def loaded(self) -> list[Batcher]:
        """Those that are loaded now."""
        with self._lock:
            return list(self._loaded.values())

    def close(self) -> None:
        """Ends all of them."""
        for batcher in self.loaded():
            batcher.close()
