"""Finished pictures, kept for a while: what is asked for twice is painted once.

Nothing is stored: a picture is a function of its request, so one that was dropped is simply painted again.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Final

from chroma_cli.sandbox.world import Painting

#: Bytes of finished pictures that are kept in memory.
_KEPT: Final = 48 * 1024 * 1024
#: Pictures that are in the making at once: more would only take memory from each other.
_PAINTERS: Final = 2
#: A picture that is cut short keeps this share of its bytes.
_CUT_SHARE: Final = 0.6


class Studio:
    """Paints to order; may be used by any number of threads."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._making: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._painters = threading.BoundedSemaphore(_PAINTERS)

    def bytes_of(self, painting: Painting) -> bytes:
        """The encoded picture, whole or cut as ordered."""
        whole = self._whole(painting)
        return whole[: int(len(whole) * _CUT_SHARE)] if painting.cut else whole

    def size_of(self, painting: Painting) -> int:
        """Bytes of the whole picture."""
        return len(self._whole(painting))

    def _whole(self, painting: Painting) -> bytes:
        key = json.dumps([dict(painting.request), painting.index], sort_keys=True)
        while True:
            with self._lock:
                if key in self._done:
                    self._done.move_to_end(key)
                    return self._done[key]
                ready = self._making.get(key)
                if ready is None:
                    self._making[key] = threading.Event()
                    break
            ready.wait()
        try:
            with self._painters:
                data = self._paint(painting)
            with self._lock:
                self._keep(key, data)
            return data
        finally:
            with self._lock:
                self._making.pop(key).set()

    def _paint(self, painting: Painting) -> bytes:
        from chroma_cli.sandbox.painter import paint  # 30 ms of Pillow, only when a picture is wanted

        return paint(painting.request, seed=painting.request["seed"], index=painting.index)

    def _keep(self, key: str, data: bytes) -> None:
        self._done[key] = data
        self._size += len(data)
        while self._size > _KEPT and len(self._done) > 1:
            self._size -= len(self._done.popitem(last=False)[1])
