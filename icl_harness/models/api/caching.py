"""What of a prefix is worth a provider's cache, and for how long.

Sources, read in November 2026: platform.claude.com/docs (prompt caching),
developers.openai.com/api/docs/guides (prompt caching), ai.google.dev/gemini-api/docs/caching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from icl_harness.models.api.limiter import Rates
from icl_harness.prompts.tree import Node, Piece, pieces

Ttl = Literal["5m", "1h"]
MOST_BREAKPOINTS = 4  # in one request, of Anthropic and of OpenAI
KEPT_S = 240.0  # a cache of 5 minutes is read again within this, with a minute to spare


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A node as it is sent: its pieces, and whether a cache is asked for. `name`: of a cache that
    holds it already.
    """

    node: Node
    pieces: tuple[Piece, ...]
    cached: bool = False
    ttl: Ttl = "5m"
    name: str = ""
    # the response that the provider is to compare with, to say why a cache was not read: None where
    # it is not asked, "" where there is none yet
    baseline: str | None = None

    @property
    def key(self) -> str:
        """Return a name for the draw: the same for every shot count, as all begin with the same
        shot.
        """
        return self.node.path[:2][-1].hash[:32]

    @property
    def breakpoints(self) -> frozenset[int]:
        """Return which pieces end in a cache breakpoint: the end of the prefix and the shot counts
        before it.
        """
        if not self.cached or not self.pieces:
            return frozenset()
        last = len(self.pieces) - 1
        cuts = [i for i, piece in enumerate(self.pieces[:-1]) if piece.cut]
        return frozenset([last, *cuts[1 - MOST_BREAKPOINTS :]])


def prefix_of(node: Node, *, cached: bool, ttl: Ttl = "5m") -> Prefix:
    """Return a node as it is sent."""
    return Prefix(node=node, pieces=tuple(pieces(node)), cached=cached, ttl=ttl)


def ttl_for(tokens: int, rates: Rates) -> Ttl:
    """Return how long a cache must last: from the request that writes it to the next one, as each
    read renews it.

    The next one waits for the whole prefix's share of the account's tokens a minute, even where
    tokens that are read do not count.
    """
    return "1h" if gap_s(tokens, rates) > KEPT_S else "5m"


def gap_s(tokens: int, rates: Rates) -> float:
    """Return the seconds from one request to the next at the rates given; 0 where none are."""
    return max(60 * tokens / rates.tpm if rates.tpm else 0.0, 60 / rates.rpm if rates.rpm else 0.0)
