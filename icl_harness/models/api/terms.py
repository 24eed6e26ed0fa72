"""The terms on which a run asks APIs: its rates, dollars and waits, where its notes go, and where
it writes down what it owns there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from icl_harness.errors import BudgetSpent
from icl_harness.models.api.flights import Flights
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.timing import Timing


class Budget:
    """Dollars that a run may spend. A request may go when its highest price fits beside those that
    are in flight.
    """

    def __init__(self, most_usd: float, spent_usd: float = 0.0) -> None:
        self.most_usd = most_usd
        self.spent_usd = spent_usd
        self._held: dict[object, float] = {}
        self._freed = asyncio.Event()

    @property
    def left_usd(self) -> float:
        """Return the dollars that are neither spent nor held back."""
        return self.most_usd - self.spent_usd - sum(self._held.values())

    @asynccontextmanager
    async def hold(self, usd: float) -> AsyncIterator[None]:
        """Hold back the price of one request while it is in flight. Raises `BudgetSpent` where it
        cannot fit any more.
        """
        while usd > self.left_usd:
            if not self._held:
                raise BudgetSpent(
                    f"--max-cost: ${self.spent_usd:.2f} of ${self.most_usd:g} are spent, and the "
                    f"next request may take ${usd:.2g}. Give more, or ask for less."
                )
            self._freed.clear()
            await self._freed.wait()
        ticket = object()
        self.owe(ticket, usd)
        try:
            yield
        finally:
            self.settle(ticket)

    def owe(self, ticket: object, usd: float) -> None:
        """Hold back the price of what is in flight already, fitting or not, until it is settled."""
        self._held[ticket] = usd

    def settle(self, ticket: object) -> None:
        """Let go of what was held back for a ticket, if anything was."""
        self._held.pop(ticket, None)
        self._freed.set()


@dataclass(kw_only=True)
class Terms:
    """`ledger` is there once the run folder is; `say` shows a note to the user at once."""

    rates: Rates = field(default_factory=Rates)
    budget: Budget | None = None
    ledger: Ledger | None = None
    flights: Flights = field(default_factory=Flights)
    batch: bool = False
    keyless: bool = False  # no answer will be requested, so that a key may be lacking
    timing: Timing = field(default_factory=Timing)
    say: Callable[[str], None] = lambda note: None
