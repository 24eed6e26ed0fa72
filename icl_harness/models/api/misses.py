"""Why requests did not read the cache that they should have, as the provider says.

In: replies behind a prefix that a provider keeps. Out: counts for one line at the end of a run. A
provider is asked once one has missed, from the next request on: it costs nothing, but healthy runs
send nothing more than they need. OpenAI: developers.openai.com/api/docs/guides/prompt-caching
(diagnostics); Anthropic: platform.claude.com/docs (cache diagnostics), November 2026.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from icl_harness.models.api.faults import Miss

NOT_SAID = "no reason given"
SAME = "no difference found: expired, or not kept"
LITTLE = 0.2  # of a prefix: what follows a difference within the query
WORDS = {
    "unavailable": NOT_SAID,
    "previous_message_not_found": NOT_SAID,
    "comparison_response_not_found": NOT_SAID,
    "cache_hit": SAME,
    "": SAME,
}


@dataclass
class Misses:
    """The requests of an account that should have read a cache, and why some did not."""

    n_requests: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def count(self, missed: bool, miss: Miss | None, prefix_tokens: int) -> None:
        """Take note of a reply, and of what the provider says of it."""
        self.n_requests += 1
        if missed:
            self.reasons[NOT_SAID if miss is None else _words(miss, prefix_tokens)] += 1

    def line(self) -> str:
        """Return how many requests missed and why; "" where none did."""
        n = self.reasons.total()
        if not n:
            return ""
        why = ", ".join(f"{reason} ({k:,})" for reason, k in self.reasons.most_common(4))
        return f"{n:,} of {self.n_requests:,} requests that could read the cache missed it: {why}"


def _words(miss: Miss, prefix_tokens: int) -> str:
    if miss.reason in WORDS:
        return WORDS[miss.reason]
    if miss.tokens is not None and miss.tokens < LITTLE * prefix_tokens:
        return SAME
    what = miss.reason.removesuffix("_changed").replace("_", " ")[:40]
    return f"different {what}"
