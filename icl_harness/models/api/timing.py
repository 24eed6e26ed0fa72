"""How long the API back ends wait, and how often they try again: one record, part of the terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Waits in seconds, and numbers of attempts."""

    # Requests
    first_wait_s: float = 0.5  # between attempts, doubling
    longest_wait_s: float = 60.0
    unreached_tries: int = 3  # at a server that never answered yet: nothing may be listening there
    # attempts in a row, beside a request's own, at which giving it up ends the run: the provider is
    # down
    unanswered: int = 24

    # Batches
    settle_s: float = 1.0  # requests are submitted once no more have come for this long
    first_poll_s: float = 2.0  # between polls of a batch, growing
    longest_poll_s: float = 60.0
    poll_tries: int = 60  # attempts at a poll: a run goes through an hour without the provider
    fetches: int = 3  # of results that seem to lack some
    batch_tries: int = 4  # batches that one request may be in
    unsure_batch_s: float = 10.0  # a batch whose submission broke off may appear as late as this

    # Gemini's cached contents
    renew_at: float = 1 / 3  # of the time left
    renew_again_s: float = 10.0  # after a renewal that failed
    sweep_s: float = 30.0  # for deleting one at the end: it ends by itself
    sweep_tries: int = 3  # attempts at renewing and deleting
    unsure_cache_s: float = 60.0  # one whose making broke off may appear as late as this
