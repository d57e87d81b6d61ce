"""Single images of many clients through one loaded model: what waits while the network works is taken as one batch."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from plankter._errors import PlankterError
from plankter.workflow.engine import Engine, load_engine
from plankter.workflow.workspace import Workspace, find_model

log = logging.getLogger(__name__)
# The network computes as many whatever comes, so a batch that is not full costs as much as a full one. Half of what sets of files
# are computed in: as fast an image, sooner full, and the same numbers.
BATCH = 16
SOME = 4  # images in a batch that tell of many clients, so that a moment's patience fills the next one
MOMENT = 0.3  # of the time that the last batch took: how long that patience lasts,
LONGEST_S = 0.02  # and at most
AT_ONCE = 2  # batches at least that can be in work; more where there are more cores
LOADED_AT_MOST = 3
WAITING_AT_MOST = 20_000
KNOWN_S = 10.0  # that a name is taken to mean the same model


class Busy(PlankterError):
    """More images wait than can be predicted soon."""

    code = "busy"


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: positions of all classes, best first, with scores; or why it cannot say."""

    best: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    decision: str
    reason: str
    failure: str | None = None


_NONE = Prediction(np.zeros(0, np.int16), np.zeros(0, np.float32), "", "")


def unread(why: str) -> Prediction:
    """What is said of an image that could not be read."""
    return replace(_NONE, failure=why)


@dataclass
class Counts:
    """What a batcher has done so far."""

    images: int = 0
    failures: int = 0
    batches: int = 0


@dataclass(eq=False)
class _Wish:
    """Images that are answered together, and whom to tell."""

    images: Sequence[bytes]
    future: Future[list[Prediction]] | asyncio.Future[list[Prediction]]
    loop: asyncio.AbstractEventLoop | None
    left: int
    found: list[Prediction | None] = field(init=False)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.found = [None] * self.left

    def tell(self) -> None:
        """Answers, in the thread that the future belongs to; nothing where nobody waits any more."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result([prediction or _NONE for prediction in self.found])


class Batcher:
    """One model and the threads that run it. Single images come before those of large sets.

    A thread takes a batch that is full, or what there is where no other batch is in work: while one is, more images come,
    and the network takes as long for a few as for many. An image that comes alone never waits.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.counts = engine, Counts()
        self._queues: tuple[deque[tuple[_Wish, int]], ...] = (deque(), deque())
        self._wake = threading.Condition()
        self._in_work = self._last = 0
        self._took_s = 0.0
        self.closed = False
        name = f"predict {engine.model.name}"
        threads = max(AT_ONCE, engine.threads)
        self._threads = [threading.Thread(target=self._loop, daemon=True, name=name) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, image: bytes, *, patient: bool = False) -> Future[Prediction]:
        """An encoded image into the queue; ``patient`` for one of many.

        Raises:
            Busy: too many wait.
        """
        one: Future[Prediction] = Future()
        many: Future[list[Prediction]] = Future()

        def tell(done: Future[list[Prediction]]) -> None:
            if one.set_running_or_notify_cancel():
                if (error := done.exception()) is not None:
                    one.set_exception(error)
                else:
                    one.set_result(done.result()[0])

        many.add_done_callback(tell)
        self._put(_Wish([image], many, None, 1), patient)
        return one

    async def predict(self, images: Sequence[bytes], *, patient: bool = False) -> list[Prediction]:
        """Encoded images, answered together; ``patient`` where others come first.

        Raises:
            Busy: too many wait.
        """
        if not images:
            return []
        loop = asyncio.get_running_loop()
        wish = _Wish(images, loop.create_future(), loop, len(images))
        self._put(wish, patient)
        return await wish.future  # type: ignore[misc]  # of this loop, as it was made here

    def _put(self, wish: _Wish, patient: bool) -> None:
        queue = self._queues[patient]
        with self._wake:
            if len(queue) >= WAITING_AT_MOST or self.closed:
                raise Busy("too many images wait to be predicted", hint="try again in a minute")
            queue.extend((wish, place) for place in range(wish.left))
            if self._may_take():
                self._wake.notify()

    def _may_take(self) -> bool:
        return self.closed or self.waiting >= BATCH or (self.waiting > 0 and not self._in_work)

    @property
    def waiting(self) -> int:
        """Images in the queues that no thread has taken yet."""
        return sum(len(queue) for queue in self._queues)

    def close(self) -> None:
        """Finishes what waits, then ends."""
        with self._wake:
            self.closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _take(self) -> list[tuple[_Wish, int]]:
        with self._wake:
            while True:
                while not self._may_take():
                    self._wake.wait()
                if self.waiting >= BATCH or self.closed or self._last < SOME:
                    break
                self._in_work += 1  # so that no other thread takes what is not full
                self._wake.wait_for(lambda: self.waiting >= BATCH or self.closed, min(LONGEST_S, MOMENT * self._took_s))
                self._in_work -= 1
                if self.waiting:
                    break
            taken: list[tuple[_Wish, int]] = []
            for queue in self._queues:
                while queue and len(taken) < BATCH:
                    wish, place = queue.popleft()
                    if not wish.future.done() and wish.error is None:  # else nobody waits any more
                        taken.append((wish, place))
            self._in_work += 1
            self._last = len(taken)
            if self._may_take():
                self._wake.notify()
            return taken

    def _loop(self) -> None:
        while not (self.closed and not self.waiting):
            taken = self._take()
            began = time.monotonic()
            try:
                found = self._predict([wish.images[place] for wish, place in taken]) if taken else []
                error = None
            except Exception as problem:
                log.exception("a batch of %d images", len(taken))
                found, error = [], problem
            with self._wake:
                self._in_work -= 1
                self._took_s = time.monotonic() - began
                ended = self._noted(taken, found, error)
                if self._may_take():
                    self._wake.notify()
            for loop, wishes in ended.items():
                _tell(loop, wishes)

    def _noted(
        self, taken: list[tuple[_Wish, int]], found: list[Prediction], error: Exception | None
    ) -> dict[asyncio.AbstractEventLoop | None, list[_Wish]]:
        """Wishes that are wholly answered now, by the loop that waits for them."""
        if taken and error is None:
            self.counts.batches += 1
            self.counts.images += len(found)
            self.counts.failures += sum(prediction.failure is not None for prediction in found)
        ended: dict[asyncio.AbstractEventLoop | None, list[_Wish]] = {}
        for number, (wish, place) in enumerate(taken):
            wish.left -= 1
            if error is not None:
                told, wish.error = wish.error is not None, error
            else:
                told, wish.found[place] = False, found[number]
            if not told and (wish.error is not None or not wish.left):
                ended.setdefault(wish.loop, []).append(wish)
        return ended

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


def _tell(loop: asyncio.AbstractEventLoop | None, wishes: list[_Wish]) -> None:
    """Answers all wishes of a batch in one go: a loop is woken once, not once an image."""

    def tell() -> None:
        for wish in wishes:
            wish.tell()

    if loop is None:
        tell()
        return
    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the server has ended meanwhile
        log.info("%d answers that nobody waits for", len(wishes))


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
                found = self._loaded[model.model_id] = Batcher(load_engine(model, self._workspace, batch=BATCH))
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
