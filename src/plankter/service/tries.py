"""Analyses that nobody keeps: images and predictions in memory, gone after an hour, when asked, or with the server."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from plankter._errors import NotFound
from plankter.service.predicting import Prediction
from plankter.service.problems import Problem

KEPT_S = 3600.0
AT_ONCE = 8


@dataclass
class Try:
    """One analysis in memory."""

    id: str
    model: str
    at: float = field(default_factory=time.monotonic)
    names: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)


class Tries:
    """Those there are now, within a limit of images and bytes over all of them."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self.max_images, self.max_bytes = max_images, max_bytes
        self._kept: OrderedDict[str, Try] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def create(self, model: str) -> Try:
        """A new one; the oldest makes room where there are too many."""
        with self._lock:
            found = Try(secrets.token_hex(12), model)
            self._kept[found.id] = found
            while len(self._kept) > AT_ONCE:
                self._drop(next(iter(self._kept)))
            return found

    def get(self, try_id: str) -> Try:
        """One by its id.

        Raises:
            NotFound: it is gone.
        """
        with self._lock:
            for old in [k for k, t in self._kept.items() if time.monotonic() - t.at > KEPT_S]:
                self._drop(old)
            found = self._kept.get(try_id)
        if found is None:
            raise NotFound(
                "this analysis was not kept", hint="analyse the images again, and keep them if they are needed"
            )
        return found

    def add(self, try_id: str, name: str, image: bytes, prediction: Prediction) -> None:
        """One more image.

        Raises:
            Problem: over the limits.
        """
        found = self.get(try_id)
        with self._lock:
            if len(found.names) >= self.max_images or self._bytes + len(image) > self.max_bytes:
                raise Problem(
                    413, f"{self.max_images:,} images and {self.max_bytes // 1_000_000} MB can be tried at once",
                    hint="keep the analysis in the workspace instead",
                )  # fmt: skip
            found.at = time.monotonic()
            found.names.append(name)
            found.images.append(image)
            found.predictions.append(prediction)
            self._bytes += len(image)

    def remove(self, try_id: str) -> None:
        """Forgets one."""
        self.get(try_id)
        with self._lock:
            self._drop(try_id)

    def _drop(self, try_id: str) -> None:
        gone = self._kept.pop(try_id, None)
        self._bytes -= sum(len(image) for image in gone.images) if gone else 0
