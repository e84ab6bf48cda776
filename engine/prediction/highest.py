"""The entries with the highest scores, of a stream of any length."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class Highest(Generic[Entry]):
    """Keeps so many entries; of equal scores the first come.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._heap: list[tuple[float, int, Entry]] = []
        self._taken = 0

    def take(self, score: float, entry: Entry) -> Entry | None:
        """Take an entry; gives the one that there is no room for, perhaps itself."""
        # The running number settles ties, since entries cannot be compared.
        self._taken += 1
        heapq.heappush(self._heap, (score, -self._taken, entry))
        return heapq.heappop(self._heap)[2] if len(self._heap) > self.limit else None

    def entries(self) -> list[Entry]:
        """Highest first."""
        return [entry for *_, entry in sorted(self._heap, key=lambda kept: kept[:2], reverse=True)]
