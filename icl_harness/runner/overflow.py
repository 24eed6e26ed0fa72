"""How many whole shots of a prompt fit into a model's context window.

In: a bundle. Out: the shot count that it is sent with, by the spec's policy. Where the back end
knows its window and its tokens that is found before anything is sent (`Fitting`); else the
provider's refusals show it (`ask_bundle`). All answers to a bundle use the same shot count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from icl_harness.errors import SpecError
from icl_harness.models.base import Answer, Model, Sampling, Usage, spent_tokens
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Prompt, Query
from icl_harness.runner.asking import CellAsker, n_bytes
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.groups import Request
from icl_harness.runner.recording import add_usage
from icl_harness.runner.schedule import AnswersAhead, Bundle
from icl_harness.runner.scopes import line_scope
from icl_harness.runner.spec_fields import OnOverflow
from icl_harness.store.records import Cell


class Fitting:
    """Finds what fits before anything is sent, for one model."""

    def __init__(self, model: Model, policy: OnOverflow) -> None:
        self.model = model
        self.policy = policy
        # of the requests that came last: their texts by the room they need, and the tokens of all
        self._reserved: tuple[dict[int, list[str]], int] = ({}, 0)

    def shots(self, bundle: Bundle, where: str) -> int | None:
        """Return with how many shots a bundle is sent: all there are or what the policy leaves;
        None where it is skipped. Raises `SpecError` with the policy `error`.
        """
        wanted = bundle.most_shots
        fitted = self._fitting_shots(bundle, wanted)
        if fitted == wanted:
            return fitted
        if self.policy == "error":
            most = "not even the query fits" if fitted is None else f"{fitted:,} shots fit"
            window = self.model.capabilities.context_window
            raise SpecError(
                f"{where}: {bundle.shots:,} shots do not fit into the {window:,} tokens of "
                f"{self.model.id}; {most}. Ask for fewer, or use --on-overflow drop or skip."
            )
        return fitted if self.policy == "drop" else None

    def _fitting_shots(self, bundle: Bundle, wanted: int) -> int | None:
        """Return the most whole shots that fit, up to `wanted`; None where not even the prompt
        without shots does. `wanted` where the model does not know its window or its tokens.
        """
        if self._fits(bundle, wanted):
            return wanted
        if not self._fits(bundle, 0):
            return None
        low, high = 0, wanted  # low fits, high does not
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(bundle, middle):
                low = middle
            else:
                high = middle
        return low

    def _fits(self, bundle: Bundle, k: int) -> bool:
        window = self.model.capabilities.context_window
        if window is None:
            return True
        tokens = self.model.count_tokens(bundle.node(k))
        if tokens is None:
            return True
        turns = self._with_own_turns(bundle, k)
        if turns:
            return max(turns) <= window
        return tokens + self._reserved_tokens(bundle, k) <= window

    def _with_own_turns(self, bundle: Bundle, k: int) -> list[int]:
        """Return the tokens of whole prompts, with their answers, whose queries have turns of a
        chat of their own: what the model's template puts around turns counts too. Empty where there
        are none.
        """
        counts = []
        for request in bundle.requests(k):
            if any(edge.role for edge in request.query.own):
                leaf = Prompt(bundle.node(k), request.query).leaf
                for text, room in self._ends(request, bundle.sampling):
                    tokens = self.model.count_tokens(leaf, text)
                    if tokens is not None:
                        counts.append(tokens + room)
        return counts

    def _reserved_tokens(self, bundle: Bundle, k: int) -> int:
        """Return the tokens that the longest request and its answer take behind the prefix."""
        by_room: dict[int, list[str]] = {}
        for request in bundle.requests(k):
            own = "".join(edge.text for edge in request.query.own)
            for text, room in self._ends(request, bundle.sampling):
                by_room.setdefault(room, []).append(own + text)
        if by_room != self._reserved[0]:
            needs = [
                room + self._longest_tokens(bundle.path, texts) for room, texts in by_room.items()
            ]
            self._reserved = by_room, max(needs, default=0)
        return self._reserved[1]

    def _ends(self, request: Request, sampling: Sampling) -> Iterator[tuple[str, int]]:
        """Yield what follows a query's own edges, with the room for tokens that are yet to be
        written: its text, or with its longest choice, where choices are scored; and with its gold
        answer, where that is weighed. Then what may stand in the query's place.
        """
        query = request.query
        yield _text_and_choice(query, sampling), self._room(sampling)
        for text in query.bare:
            yield _text_and_choice(replace(query, text=text), sampling), 0
        if query.gold:
            yield query.text + query.gold, 0

    def _room(self, sampling: Sampling) -> int:
        """Return the tokens that a written answer may take."""
        return self.model.limit(sampling) if sampling.scoring == "generate" else 0

    def _longest_tokens(self, path: PromptPath, texts: Sequence[str]) -> int:
        root = path.node(0)
        base, longest = self.model.count_tokens(root), self.model.count_longest(root, texts)
        return 0 if base is None or longest is None else longest - base


def _text_and_choice(query: Query, sampling: Sampling) -> str:
    if sampling.scoring == "generate":
        return query.text
    return query.text + max(query.continuations, key=len, default="") + query.ending


def refuse_overflow(experiment: Experiment) -> None:
    """Raise `SpecError` where a prompt does not fit; those that show a bank's attempts are not
    known before it is made.
    """
    for line in experiment.lines():
        if line.needs_bank:
            continue
        scope = line_scope(experiment, line, experiment.path(line))
        schedule, fitting = experiment.schedule(line), Fitting(experiment.model(line), "error")
        for shots in experiment.spec.shots:
            answers = AnswersAhead({})
            for bundle in schedule(scope, shots, answers):
                if answers.left(bundle.requests(bundle.most_shots)):
                    fitting.shots(bundle, str(line))


def longest_first(model: Model, bundle: Bundle, k: int) -> list[Request]:
    """Return a bundle's requests, where only the provider can tell what fits the longest first."""
    requests = list(bundle.requests(k))
    unknown = model.capabilities.context_window is None
    if requests and (unknown or model.count_tokens(bundle.node(0)) is None):
        longest = max(requests, key=n_bytes)
        requests.remove(longest)
        requests.insert(0, longest)
    return requests


async def ask_bundle(asker: CellAsker, bundle: Bundle, fitting: Fitting, position: int = 0) -> None:
    """Send the requests of a bundle that have no answer yet, with as many shots as fit. Bundles of
    the same `position` in their cells can have about as many.
    """
    requests = longest_first(asker.model, bundle, bundle.most_shots)
    shots, rest = -1, asker.pending(requests)
    if rest:
        fitted = fitting.shots(bundle, str(asker.state.line))
        if fitted is not None:
            left = {request.key for request in rest}
            answered = [request for request in requests if request.key not in left]
            most = min(fitted, asker.state.most_shots.get(position, fitted))
            shots, rest = _resumed(asker, bundle, most, answered, rest)
    asker.count(queries=_n_members(requests) - _n_members(rest))
    if rest:
        await _Search(asker, bundle, fitting.policy, position).ask(shots, rest)


def _n_members(requests: Sequence[Request]) -> int:
    return sum(len(request.members) for request in requests)


def _skip(asker: CellAsker, bundle: Bundle, requests: Sequence[Request]) -> None:
    error = f"{asker.cell.shots} shots do not fit into the context window"
    answer = Answer(query_id="", status="overflow", error=error)
    asker.miss(bundle.node(0), bundle.same(requests, 0), answer)


def _resumed(
    asker: CellAsker,
    bundle: Bundle,
    shots: int,
    answered: Sequence[Request],
    pending: Sequence[Request],
) -> tuple[int, list[Request]]:
    """Return the shots and the requests with which a bundle goes on where it was left: at most
    `shots`, and no more than its answers used.
    """
    used: Collection[int]
    if answered:
        used = _shots_used(asker, asker.cell, answered)
    else:  # other bundles of the cell may have dropped shots
        used = asker.store.answers_by_shots(asker.cell)
    most = max(used, default=shots)
    if most >= shots:
        return shots, bundle.same(pending, shots)
    if len(answered) == 1:  # it was left in the search, which goes on with the same request
        return shots, bundle.same([*answered, *pending], shots)
    return most, bundle.same(pending, most)


def _shots_used(asker: CellAsker, cell: Cell, requests: Sequence[Request]) -> set[int]:
    """Return with how many shots requests were answered in a cell."""
    outcomes = asker.store.outcomes(cell)
    keys = chain.from_iterable(request.keys for request in requests)
    found = map(outcomes.get, keys)
    return {one.shots_used for one in found if one is not None and one.status == "ok"}


class _Search:
    """Sends a bundle with the most shots that the provider takes."""

    def __init__(self, asker: CellAsker, bundle: Bundle, policy: OnOverflow, position: int) -> None:
        self.asker = asker
        self.bundle = bundle
        self.policy = policy
        self.position = position

    async def ask(self, shots: int, requests: Sequence[Request]) -> None:
        """Send requests with `shots` shots; where one is too long, do as the policy says. No shots
        fit: -1.
        """
        asker, bundle = self.asker, self.bundle
        if shots < 0:
            _skip(asker, bundle, requests)
            return
        too_long = await asker.send(bundle, shots, requests)
        if too_long is None:
            return
        if self.policy == "error":
            raise SpecError(
                f"{asker.state.line}: {asker.cell.shots:,} shots do not fit into the context "
                f"window of {asker.model.id}. Ask for fewer, or use --on-overflow drop or skip."
            )
        others = longest_first(asker.model, bundle, shots)
        others = [request for request in others if request.key != too_long.key]
        asker.requeue(bundle, others)
        if self.policy == "skip":
            _skip(asker, bundle, [too_long, *others])
        else:
            await self._ask_with_fewer(shots, [too_long, *others])

    async def _ask_with_fewer(self, too_many: int, requests: Sequence[Request]) -> None:
        """Send requests with the most shots that the first of them, which was refused, leaves."""
        asker, state = self.asker, self.asker.state
        async with state.searching:  # another cell of the line may be, too
            most = state.most_shots.get(self.position)
            if most is None or most >= too_many:
                most = await self._find_most(too_many, requests)
            if most is None:
                return
            state.most_shots[self.position] = most
        asker.requeue(self.bundle, requests[:1], keep=most)
        again = asker.pending(self.bundle.same(requests, max(most, 0)))
        await self.ask(most, again)

    async def _find_most(self, too_many: int, requests: Sequence[Request]) -> int | None:
        """Return the most whole shots with which the provider takes the first request, which it
        refused with `too_many`; -1 where it takes none, and None where it fails, and with it the
        bundle.

        Refusals are free, answers are stored at once: the last one is the cell's, with the cost of
        all.
        """
        asker, refused = self.asker, requests[0]
        low, high, spent, n_lost = self._known_to_fit(too_many, refused), too_many, Usage(), 0
        while high - low > 1:
            middle = (low + high) // 2
            node = self.bundle.node(middle)
            (request,) = self.bundle.same([refused], middle)
            answer = await asker.send_one(self.bundle, middle, request)
            n_lost += answer.n_lost
            if answer.status == "overflow":
                high = middle
                continue
            asker.count(tokens=spent_tokens(answer.usage))
            # Tokens are summed here, dollars by the store.
            spent = add_usage(spent, answer.usage)
            usage = replace(spent, cost_usd=answer.usage.cost_usd)
            asker.add(node, [(request, replace(answer, usage=usage, n_lost=n_lost))])
            if answer.status == "failed":
                asker.count(queries=len(refused.members))
                failed = Answer(query_id="", status="failed", error=answer.error)
                asker.miss(node, self.bundle.same(requests[1:], middle), failed)
                return None
            low, n_lost = middle, 0
        if not asker.pending([refused]):
            asker.count(queries=len(refused.members))
        return low

    def _known_to_fit(self, too_many: int, refused: Request) -> int:
        """Return the most shots with which a request was answered in a cell of the line; -1 where
        it never was.
        """
        used = {-1}
        for shots in self.asker.state.shots:
            used |= _shots_used(self.asker, replace(self.asker.cell, shots=shots), [refused])
        return max(k for k in used if k < too_many)
