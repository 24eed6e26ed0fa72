"""Local models through `transformers`: `hf/<folder or hub id>` (floor 2).

In: a node and its queries. Out: answers, a batch at a time. The node's keys and values are computed once and extended
for the next node; its queries are fed in batches that hold their own tokens only (kv.py), and are answered by
generation or by the likelihood of their choices (decode.py). Token ids are those of the whole text (tokens.py).
Left out: chat templates, and keeping the caches of several paths at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from icl_harness.errors import SpecError
from icl_harness.models.base import Answer, Capabilities, Model, Sampling, Status, Usage
from icl_harness.models.tokens import Branch, TokenTree, Twig
from icl_harness.prompts import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.batches import Done

MAX_BATCH = 256  # rows per forward, unless --model-arg batch_size says otherwise
SMALL_MODEL = 20_000_000  # parameters
MAX_SAMPLES = 16  # of one text that share the prefill of its own tokens
NO_MEMORY = "out of memory, even for this query alone; fewer shots or a smaller dtype would fit"


@dataclass(frozen=True, slots=True)
class _Item:
    """One distinct text that follows the node, and all who ask it.

    `weights`: each choice's log-likelihood once it is known, in nats; None where there was no memory for it.
    """

    branch: Branch
    asks: list[Query]
    weights: dict[int, float | None] = field(default_factory=dict)

    @property
    def twig(self) -> Twig:
        """Return the tokens to feed."""
        return Twig.chain(self.branch)

    def missing(self, status: Status, error: str) -> list[Answer]:
        """Return an answer without text for everyone who asks."""
        usage = Usage(prompt_tokens=len(self.branch), cached_tokens=0, completion_tokens=0)
        return [
            Answer(query_id=query.id, sample=query.sample, status=status, error=error, usage=usage)
            for query in self.asks
        ]


class HfModel(Model):
    """A causal language model of `transformers`, from a folder or the hub, on CUDA where present, else on the CPU.

    `model_args` are those of `--model-arg`, as strings: `hf_open.Options` lists them. Raises `ModelError`.
    An answer's latency is its batch's wall time divided by the batch's rows; the prefill of the node is not in it.
    """

    def __init__(self, path_or_id: str, *, id: str | None = None, **model_args: str) -> None:
        from icl_harness.models import hf_open
        from icl_harness.models.decode import Texts
        from icl_harness.models.kv import open_prefix

        self.id = id or f"hf/{path_or_id}"
        options = hf_open.parse(model_args)
        self._model, tokenizer, self._origin = hf_open.load(path_or_id, options)
        self._max_batch = options.batch_size or MAX_BATCH
        self._tree = TokenTree(tokenizer)
        self._texts = Texts(tokenizer)
        self._ends = hf_open.end_tokens(self._model, tokenizer)
        self._prefix: Any
        self._prefix, self._why_slower = open_prefix(self._model)
        window = options.context_window or hf_open.context_window(self._model)
        self.capabilities = Capabilities(logprobs=True, context_window=window, prefix_caching=True)

    @property
    def n_prefilled(self) -> int:
        """Tokens of nodes fed so far: each of a path's tokens once, however many shot counts and queries share it."""
        return int(self._prefix.n_prefilled)

    def count_tokens(self, node: Node, query: str = "") -> int:
        """Return the exact tokens of the prefix plus `query`."""
        return len(self._tree.branches(node, [query])[0]) if query else self._tree.count(node)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers batch by batch, shortest queries first.

        A prompt that does not fit the window together with `max_tokens` (or with its longest choice) is an overflow.
        Raises `SpecError` where the scoring needs choices that a query does not have.
        """
        solve = self._generated if sampling.scoring == "generate" else self._chosen
        with _threads(self._model):
            for batch in solve(node, queries, sampling):
                if batch:
                    yield batch
                    await asyncio.sleep(0)

    def describe(self) -> dict[str, Any]:
        """Return library versions, device, precision, the number of parameters and what the weights are."""
        from icl_harness.models import hf_open

        return hf_open.describe(self._model, self._origin)

    async def close(self) -> None:
        """Free the cache and the weights; the model cannot be asked any more."""
        import torch

        self._model = self._prefix = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _generated(self, node: Node, queries: Sequence[Query], sampling: Sampling) -> Iterator[list[Answer]]:
        """Feed each distinct text once. At temperature 0 its samples are one and the same answer."""
        from icl_harness.models.batches import in_batches
        from icl_harness.models.decode import Ask, generate

        items: list[_Item] = []
        ids, greedy = self._tree.ids(node), sampling.temperature == 0
        for item in self._items(node, queries, lambda query: (query.text,)):
            misfit = self._misfit(len(item.branch), sampling.max_tokens)
            if misfit is None:
                n = len(item.asks) if greedy else MAX_SAMPLES
                pieces = [item.asks[i : i + n] for i in range(0, len(item.asks), n)]
                items += [_Item(item.branch.opened(ids), asks) for asks in pieces]
            else:
                yield item.missing(*misfit)

        def solve(batch: list[_Item]) -> list[Any]:
            seeds = [[query.seed for query in item.asks[: 1 if greedy else None]] for item in batch]
            asks = [Ask(row, seed, batch[row].branch.own[-1]) for row in range(len(batch)) for seed in seeds[row]]
            rows = [item.twig for item in batch]
            made = iter(generate(self._prefix, rows, asks, sampling, self._ends, self._texts))
            told = [[next(made) for _ in own] for own in seeds]
            return [one * (len(item.asks) // len(one)) for item, one in zip(batch, told, strict=True)]

        copies = 1 if greedy else max((len(item.asks) for item in items), default=1)
        for done in in_batches(
            self._prefix, ids, items, self._max_batch, solve, n_new=sampling.max_tokens, copies=copies
        ):
            yield _told(done)

    def _chosen(self, node: Node, queries: Sequence[Query], sampling: Sampling) -> Iterator[list[Answer]]:
        """Weigh the choices of each distinct query; one row serves all choices that begin with the same tokens."""
        from icl_harness.models.batches import in_batches
        from icl_harness.models.decode import Candidate, candidate, chains, weigh

        for query in queries:
            if not query.choices or len(query.choices) != len(query.continuations):
                raise SpecError(
                    f"scoring {sampling.scoring!r} weighs a query's choices, and query {query.id} has none. "
                    "Use scoring 'generate', or a task whose examples have choices."
                )
        ids = self._tree.ids(node)
        items = self._items(node, queries, lambda query: (query.text, query.choices, query.continuations))
        texts = [item.asks[0].text + end for item in items for end in item.asks[0].continuations]
        branches = iter(self._tree.branches(node, texts))
        rows: list[Candidate] = []
        for i, item in enumerate(items):
            choices = [next(branches) for _ in item.asks[0].continuations]
            misfit = self._misfit(max(map(len, choices)), 0)
            if misfit is None:
                try:
                    row = candidate(i, ids, item.branch, choices)
                    rows += [row] if self._prefix.way == "shared" else chains(row)
                except ValueError as error:
                    misfit = ("failed", f"query {item.asks[0].id}: {error}")
            if misfit is not None:
                yield item.missing(*misfit)
        wanted = max((len(row.wanted) for row in rows), default=1)
        for done in in_batches(self._prefix, ids, rows, self._max_batch, partial(weigh, self._prefix), wanted=wanted):
            yield _tally(items, done, normalised=sampling.scoring == "choices-normalised")

    def _items(self, node: Node, queries: Sequence[Query], key: Callable[[Query], Any]) -> list[_Item]:
        """Return the distinct queries, as `key` tells them apart, with their tokens."""
        asks: dict[Any, list[Query]] = {}
        for query in queries:
            asks.setdefault(key(query), []).append(query)
        branches = self._tree.branches(node, [same[0].text for same in asks.values()])
        return [_Item(branch, same) for branch, same in zip(branches, asks.values(), strict=True)]

    def _misfit(self, n_tokens: int, n_new: int) -> tuple[Status, str] | None:
        """Return why a prompt of `n_tokens` cannot be asked for `n_new` more, or None where it can."""
        window = self.capabilities.context_window
        if n_tokens == 0:
            return "failed", "the prompt has no tokens; a model without a BOS token needs at least one"
        if window is None or n_tokens + n_new <= window:
            return None
        answer = f" and up to {n_new:,} more to generate" if n_new else ""
        return "overflow", f"the prompt has {n_tokens:,} tokens{answer}; the model's window is {window:,}"


def _told(done: Done) -> list[Answer]:
    """Return the answers of a batch of items; its results are a list of `Generated` per item, one for each who asks."""
    if done.results is None:
        return [answer for item in done.rows for answer in item.missing("failed", NO_MEMORY)]
    seconds = done.seconds / len(done.rows)
    answers: list[Answer] = []
    for item, told in zip(done.rows, done.results, strict=True):
        n, n_cached = len(item.branch), item.branch.n_shared
        for query, one in zip(item.asks, told, strict=True):
            usage = Usage(prompt_tokens=n, cached_tokens=n_cached, completion_tokens=one.n_tokens)
            answers.append(
                Answer(query_id=query.id, sample=query.sample, text=one.text, usage=usage, latency_s=seconds)
            )
    return answers


def _tally(items: list[_Item], done: Done, *, normalised: bool) -> list[Answer]:
    """Note the weights of a batch; return the answers of the queries that have all of theirs."""
    answers: list[Answer] = []
    for row, told in zip(done.rows, done.results or itertools.repeat({}), strict=False):
        item = items[row.item]
        for choice, pairs in row.reads.items():
            nats = told.get(choice)  # None where there was no memory for it
            item.weights[choice] = None if nats is None else nats / (len(pairs) if normalised else 1)
        if len(item.weights) == len(item.asks[0].choices):
            answers += _elected(item, row.twig.n_shared, done.seconds / len(done.rows))
    return answers


def _elected(item: _Item, n_cached: int, seconds: float) -> list[Answer]:
    """Return the likeliest choice, the first of equals, for everyone who asks."""
    weights = {choice: item.weights[i] for i, choice in enumerate(item.asks[0].choices)}
    known = {choice: nats for choice, nats in weights.items() if nats is not None}
    if len(known) < len(weights):
        return item.missing("failed", NO_MEMORY)
    best = max(known, key=known.__getitem__)
    usage = Usage(prompt_tokens=len(item.branch), cached_tokens=n_cached, completion_tokens=0)
    return [
        Answer(query_id=query.id, sample=query.sample, text=best, usage=usage, latency_s=seconds, logprobs=known)
        for query in item.asks
    ]


@contextlib.contextmanager
def _threads(model: Any) -> Iterator[None]:
    """Hold a small model on the CPU to one thread: where cores are busy, threads wait for each other at every layer."""
    import torch

    before = torch.get_num_threads()
    if model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
