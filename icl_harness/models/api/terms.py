"""The terms on which a run asks APIs: its rates, its dollars, its notes, and where it writes down
what it owns there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from icl_harness.errors import BudgetSpent
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.limiter import Rates


class Budget:
    """Dollars that a run may spend. A request is let through when its price at worst still fits
    beside those flying.
    """

    def __init__(self, most_usd: float, spent_usd: float = 0.0) -> None:
        self.most_usd = most_usd
        self.spent_usd = spent_usd
        self._flying: dict[object, float] = {}
        self._landed = asyncio.Event()

    @property
    def left_usd(self) -> float:
        """Return the dollars that are neither spent nor held back."""
        return self.most_usd - self.spent_usd - sum(self._flying.values())

    @asynccontextmanager
    async def hold(self, usd: float) -> AsyncIterator[None]:
        """Hold back the price of one request while it flies. Raises `BudgetSpent` where it cannot
        fit any more.
        """
        while usd > self.left_usd:
            if not self._flying:
                raise BudgetSpent(
                    f"--max-cost: ${self.spent_usd:.2f} of ${self.most_usd:g} are spent, and the next request may take "
                    f"${usd:.2g}. Give more, or ask for less."
                )
            self._landed.clear()
            await self._landed.wait()
        ticket = object()
        self.owe(ticket, usd)
        try:
            yield
        finally:
            self.settle(ticket)

    def owe(self, ticket: object, usd: float) -> None:
        """Hold back the price of what flies already, whether it fits or not, until it is settled."""
        self._flying[ticket] = usd

    def settle(self, ticket: object) -> None:
        """Let go of what was held back for a ticket, if anything was."""
        self._flying.pop(ticket, None)
        self._landed.set()


@dataclass(kw_only=True)
class Terms:
    """`ledger` is there once the run folder is; `say` is told what the user should know at once."""

    rates: Rates = field(default_factory=Rates)
    budget: Budget | None = None
    ledger: Ledger | None = None
    batch: bool = False
    keyless: bool = False  # nothing will be asked, so that a key may be lacking
    say: Callable[[str], None] = lambda note: None
