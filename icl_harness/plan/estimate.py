"""A plan: what each cell of a run will take, and whether that is more than the run may cost.

Out of asker.py comes a `Plan`: a row for each bundle of a cell (most cells have one) and for each
bank that is to be made. The dollars of prompts are those that will be; those of answers are at
most, as if each filled its room.
"""

from __future__ import annotations

from dataclasses import dataclass

from icl_harness.errors import SpecError

GOLD = ", gold answers for the model's own"  # added to how the tokens of a bank's shots are counted


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What is left to request of a cell; None where a number is not known. A bank has no `draw`,
    its shots are `shots`.

    `shots_used`: None where the cell is skipped. `longest`: the tokens of its longest prompt and
    the room for its answer. `window`: the model's context window; `window_source`: the user, the
    model itself or the price table. `usd_plain`, `usd_cached`, `usd_batch`: of the prompts, in
    three ways; `usd_output`: of the answers at most (half in batch); `usd_usual_low`,
    `usd_usual_high`: as long as the run's own answers were so far, or with thoughts as long as is
    usual for the model's family, where it reasons; `usual_low_tokens`, `usual_high_tokens`: so many
    tokens an answer; `usual_source`: where they come from. `counted`: how the tokens came about.
    `seconds`: at the rates given.
    """

    task: str
    model: str
    mode: str
    variant: str
    shots: int
    draw: int | None
    requests: int
    shots_used: int | None = None
    longest: int | None = None
    window: int | None = None
    window_source: str = ""
    fits: bool | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    completion_tokens: int = 0
    usd_cached: float | None = None
    usd_plain: float | None = None
    usd_batch: float | None = None
    usd_output: float | None = None
    usd_usual_low: float | None = None
    usd_usual_high: float | None = None
    usual_low_tokens: float | None = None
    usual_high_tokens: float | None = None
    usual_source: str = ""
    counted: str = ""
    seconds: float | None = None

    @property
    def estimated(self) -> bool:
        """Whether the tokens were not counted, or not those of the prompts that will be sent."""
        return self.counted.startswith("estimate") or self.counted.endswith(GOLD)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rows in the order of the walk, what the run has cost so far, the models of APIs whose
    price is not known, and notes for the user.
    """

    rows: tuple[Planned, ...]
    unpriced: tuple[str, ...] = ()
    spent_usd: float = 0.0
    notes: tuple[str, ...] = ()

    def usd(self, kind: str) -> float | None:
        """Return the dollars of all rows that have some: `usd_cached`, …; None where none has."""
        known = [usd for row in self.rows if (usd := getattr(row, kind)) is not None]
        return sum(known) if known else None


def refuse_cost(plan: Plan, most_usd: float, *, batch: bool) -> None:
    """Raise `SpecError` where a run would cost more than `most_usd`, or where that is not known.

    The prompts count, and the answers do not: what they will cost is not known, and the run stops
    in time.
    """
    if plan.unpriced:
        raise SpecError(
            f"--max-cost: no price is known for {plan.unpriced[0]}; name one with --model-arg "
            "priced_as=provider/model, or leave --max-cost out."
        )
    left = plan.usd("usd_batch" if batch else "usd_cached") or 0.0
    if plan.spent_usd + left <= most_usd:
        return
    spent = f"${dollars(plan.spent_usd)} are spent and " if plan.spent_usd else ""
    ways = ["in batch", "with caching"] if batch else ["with caching", "in batch"]
    other = plan.usd("usd_cached" if batch else "usd_batch")
    cheaper = f", {ways[1]} ${dollars(other)}" if other is not None and other < left else ""
    raise SpecError(
        f"--max-cost is ${most_usd:,g}: {spent}the prompts alone take ${dollars(left)} "
        f"{ways[0]}{cheaper}. Give more, or ask for less: see icl plan."
    )


def dollars(usd: float) -> str:
    """Return dollars as a table shows them: to the cent, and less than one to four places."""
    return f"{usd:,.2f}" if usd >= 1 else f"{usd:.4f}"
