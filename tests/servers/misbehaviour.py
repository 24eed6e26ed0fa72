"""What goes wrong, drawn on a seed: the same request with the same body meets the same faults in
every run.

In: a seed, a share, the kinds. Out: a fault for a request, or for an item of a batch. Left out: how
a fault is done (handler.py, batches.py). Faults that come before the answer leave no trace; those
after it leave the account charged and the batch, file or cache made, as at the provider.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Sequence

BEFORE = ("rate", "500", "529", "reset")  # nothing has happened at the provider
AFTER = ("lost", "reset_after", "stall", "truncated", "garbage")  # the answer was made, and billed
ITEMS = ("duplicate", "failed", "expired")  # of a batch
KINDS = BEFORE + AFTER + ITEMS


class Misbehaviour:
    """The draws. A request that comes again draws again."""

    def __init__(self, seed: int, share: float, kinds: Sequence[str]) -> None:
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(f"no such kinds of misbehaviour: {sorted(unknown)}")
        self.seed = seed
        self.share = share
        self.requests = [kind for kind in kinds if kind not in ITEMS]
        self.items = [kind for kind in kinds if kind in ITEMS]
        self.met: Counter[str] = Counter()  # what has been drawn
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def of_request(self, method: str, path: str, body: bytes) -> str | None:
        """Draw for a request."""
        return self._draw(f"{method} {path} {hashlib.sha1(body).hexdigest()}", self.requests)

    def of_item(self, name: str) -> str | None:
        """Draw for an item of a batch."""
        return self._draw(f"item {name}", self.items)

    def _draw(self, what: str, kinds: Sequence[str]) -> str | None:
        with self._lock:
            self._seen[what] += 1
            rng = random.Random(f"{self.seed} {what} {self._seen[what]}")
            if not kinds or rng.random() >= self.share:
                return None
            kind = rng.choice(kinds)
            self.met[kind] += 1
            return kind
