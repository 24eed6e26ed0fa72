"""Local models through `transformers`: `hf/<folder or hub id>`.

In: a node and its queries. Out: answers, a batch at a time. The node's keys and values are computed
once and extended for the next node (kv.py); its queries are fed in batches that hold their own
tokens only (batches.py), and are answered by generation or by the likelihood of their choices
(decode.py). Token ids are those of the whole text (tokens.py); of a chat, those of what the model's
own template writes of it (chat.py). Left out: keeping the keys and values of several paths at a
time (kv_disk.py keeps them between runs).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.base import Answer, Capabilities, KvCache, Model, Sampling, Usage
from icl_harness.models.local import asks
from icl_harness.models.local.args import one_line
from icl_harness.models.local.chat import Chat, open_chat
from icl_harness.models.local.choices import Candidate, candidate, chains, small, split
from icl_harness.models.local.tokens import TokenTree, Twig
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.local.batches import Done

MAX_BATCH = 256  # rows per forward, unless --model-arg batch_size says otherwise
SMALL_MODEL = 20_000_000  # parameters
MAX_SAMPLES = 16  # of one text that share the prefill of its own tokens
NO_MEMORY = "out of memory, even for this query alone; fewer shots or a smaller dtype would fit"
Weights = dict[
    int, float | None
]  # choice -> log-likelihood in nats; None where there was no memory for it


@dataclass(frozen=True, slots=True)
class _Row:
    """A text to go on from, as it is fed, and who asks it."""

    item: asks.Item
    twig: Twig


class HfModel(Model):
    """A causal language model of `transformers`, from a folder or the hub, on CUDA where present,
    else on the CPU.

    `model_args` are those of `--model-arg`, as strings: `hf_open.Options` lists them. Raises
    `ModelError`. An answer's latency is its batch's wall time divided by the batch's rows; the
    prefill of the node is not in it.
    """

    def __init__(
        self,
        path_or_id: str,
        *,
        id: str | None = None,
        kv_cache: KvCache | None = None,
        **model_args: str,
    ) -> None:
        from icl_harness.models.local import hf_open
        from icl_harness.models.local.decode import Texts
        from icl_harness.models.local.ways import open_prefix

        self.id = id or f"hf/{path_or_id}"
        self._options = options = hf_open.parse(model_args)
        self._model, tokenizer, self._origin = hf_open.load(path_or_id, options)
        self._chat = open_chat(tokenizer, one_turn=options.chat_template)
        self._tree, self._chats = TokenTree(tokenizer), TokenTree(tokenizer, spelt_out=True)
        self._texts = Texts(tokenizer)
        self._ends = hf_open.end_tokens(self._model, tokenizer)
        self._prefix: Any
        with _threads(self._model):
            try:
                self._prefix, self._why = open_prefix(self._model)
            except Exception as error:  # whatever a model's code raises on its first forward
                raise ModelError(
                    f"{self.id} was opened, but does not run: {one_line(error)}"
                ) from error
        self._keeps = self._prefix.way != "whole"
        window = self._window()
        if kv_cache is not None:
            self._prefix.keep_on_disk(kv_cache, self.describe())
        chat = self._chat is not None and not options.chat_template
        self.capabilities = Capabilities(
            logprobs=True, chat=chat, context_window=window, prefix_caching=self._keeps
        )

    @property
    def n_prefilled(self) -> int:
        """Tokens of nodes fed so far: each of a path's tokens once, however many shot counts and
        queries share it.
        """
        return int(self._prefix.n_prefilled)

    def count_tokens(self, node: Node, query: str = "") -> int:
        """Return the exact tokens of the prefix plus `query`; of a chat all that stands before the
        answer.
        """
        tree, at, behind = self._read(node)
        text = behind(query)
        return len(tree.branches(at, [text])[0]) if text else tree.count(at)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers batch by batch, shortest queries first.

        A prompt that does not fit the window together with `max_tokens` (or with its longest
        choice) is an overflow. Raises `SpecError` where the scoring needs choices that a query does
        not have, or where the chat template has no place for a turn or changes its words.
        """
        if (chat := self._chat_of(node)) is not None:
            chat.check(node, [query.text for query in queries])
        solve = self._generated if sampling.scoring == "generate" else self._chosen
        batches = solve(node, queries, sampling)
        while True:
            with _threads(self._model):
                batch = next(batches, None)
            if batch is None:
                return
            if batch:
                yield batch
                await asyncio.sleep(0)

    def describe(self) -> dict[str, Any]:
        """Return library versions, device, precision, the number of parameters, what the weights
        are, and in which way (ways.py) rows branch from a prefix, with the reason where it is not
        the fastest one.
        """
        from icl_harness.models.local import hf_open

        told = hf_open.describe(self._model, self._origin)
        told |= {"branches": self._prefix.way, **({"because": self._why} if self._why else {})}
        return {**told, **({"window_held_to": self._steady} if self._steady else {})}

    async def close(self) -> None:
        """Free the cache and the weights; the model cannot be asked any more."""
        import torch

        self._model = self._prefix = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _window(self) -> int | None:
        """Return the window in tokens, held to where positions mean the same in all prompts. Raises
        `ModelError`.
        """
        from icl_harness.models.local import hf_open

        asked, window = self._options.context_window, hf_open.context_window(self._model)
        steady = hf_open.steady_window(self._model)
        self._steady = (
            steady if steady is not None and (window is None or steady < window) else None
        )
        if steady is not None and asked is not None and asked > steady:
            raise ModelError(
                f"--model-arg context_window={asked}: beyond {steady:,} tokens this model's rotary positions change "
                f"with the length of the prompt, so that prompts share nothing. Ask for at most {steady:,}."
            )
        return asked or self._steady or window

    def _chat_of(self, node: Node) -> Chat | None:
        """Return the template that a prefix is put in; None where it is plain text. Raises
        `SpecError`.
        """
        if node.role and not self.capabilities.chat:
            raise SpecError(f"{self.id} takes no turns of a chat. Use --format text.")
        return self._chat if node.role or self._options.chat_template else None

    def _read(
        self, node: Node, *, answered: bool = False
    ) -> tuple[TokenTree, Node, Callable[[str], str]]:
        """Return what the model reads for a prefix: a tree, the node in it, and what it makes of a
        query's text.
        """
        chat = self._chat_of(node)
        if chat is None:
            return self._tree, node, str
        return self._chats, chat.text(node), partial(chat.behind, node, answered=answered)

    def _generated(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> Iterator[list[Answer]]:
        """Feed each distinct text once. At temperature 0 its samples are one and the same answer."""
        from icl_harness.models.local.batches import in_batches

        rows: list[_Row] = []
        limit = self._options.batch_size or MAX_BATCH
        tree, at, behind = self._read(node)
        ids, greedy = tree.ids(at), sampling.temperature == 0
        for item in asks.group(tree, at, queries, lambda query: query.text, behind):
            misfit = asks.misfit(
                len(item.branch), sampling.max_tokens, self.capabilities.context_window
            )
            if misfit is not None:
                yield item.missing(*misfit)
                continue
            branch = item.branch.opened(ids)
            n = len(item.asks) if greedy else min(MAX_SAMPLES, limit)
            pieces = [item.asks[i : i + n] for i in range(0, len(item.asks), n)]
            rows += [_Row(asks.Item(branch, same), Twig.chain(branch)) for same in pieces]
        copies = 1 if greedy else max((len(row.item.asks) for row in rows), default=1)
        solve = partial(self._written, sampling)
        n_new = sampling.max_tokens
        for done in in_batches(
            self._prefix, ids, rows, limit, solve, _halves, n_new=n_new, copies=copies
        ):
            yield _told(done, kept=self._keeps)

    def _written(self, sampling: Sampling, batch: Sequence[_Row]) -> list[Any]:
        """Return for each row what was generated for each who asks."""
        from icl_harness.models.local.decode import Ask, generate

        only = 1 if sampling.temperature == 0 else None
        seeds = [[query.seed for query in row.item.asks[:only]] for row in batch]
        wanted = [
            Ask(i, seed, batch[i].item.branch.own[-1])
            for i in range(len(batch))
            for seed in seeds[i]
        ]
        twigs = [row.twig for row in batch]
        made = iter(generate(self._prefix, twigs, wanted, sampling, self._ends, self._texts))
        told = [[next(made) for _ in own] for own in seeds]
        return [
            one * (len(row.item.asks) // len(one)) for row, one in zip(batch, told, strict=True)
        ]

    def _chosen(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> Iterator[list[Answer]]:
        """Weigh the choices of each distinct query, which is fed once for all of them."""
        from icl_harness.models.local.batches import in_batches
        from icl_harness.models.local.decode import weigh

        asks.need_choices(queries, sampling)
        tree, at, behind = self._read(node, answered=True)
        ids = tree.ids(at)
        key = lambda query: (query.text, query.choices, query.continuations)  # noqa: E731
        items = asks.group(tree, at, queries, key, behind)
        trim = (
            str if tree is self._tree else str.lstrip
        )  # an answer that is a turn begins with a word
        asked = [(behind(item.asks[0].text), item.asks[0].continuations) for item in items]
        branches = iter(
            tree.branches(at, [text + trim(end) for text, ends in asked for end in ends])
        )
        rows: list[Candidate] = []
        for i, item in enumerate(items):
            choices = [next(branches) for _ in item.asks[0].continuations]
            misfit = asks.misfit(max(map(len, choices)), 0, self.capabilities.context_window)
            if misfit is None:
                try:
                    row = candidate(i, ids, item.branch, choices)
                    rows += small(row) if self._prefix.trees else chains(row)
                except ValueError as error:
                    misfit = ("failed", f"query {item.asks[0].id}: {error}")
            if misfit is not None:
                yield item.missing(*misfit)
        wanted = max((len(row.wanted) for row in rows), default=1)
        weights: list[Weights] = [{} for _ in items]
        limit = self._options.batch_size or MAX_BATCH
        solve = partial(weigh, self._prefix)
        for done in in_batches(self._prefix, ids, rows, limit, solve, split, wanted=wanted):
            yield _tally(
                items,
                weights,
                done,
                kept=self._keeps,
                normalised=sampling.scoring == "choices-normalised",
            )


def _halves(row: _Row) -> list[_Row]:
    """Return a row as two, each with half of those who ask it; none where only one does."""
    asked, branch = row.item.asks, row.item.branch
    parts = (asked[: len(asked) // 2], asked[len(asked) // 2 :])
    return [_Row(asks.Item(branch, part), row.twig) for part in parts] if len(asked) > 1 else []


def _told(done: Done, *, kept: bool) -> list[Answer]:
    """Return the answers of a batch; its results are a list of `Generated` per row, one for each
    who asks.

    `kept`: what a row shares with its node was not fed for it.
    """
    if done.results is None:
        return [answer for row in done.rows for answer in row.item.missing("failed", NO_MEMORY)]
    seconds = done.seconds / len(done.rows)
    answers: list[Answer] = []
    for row, told in zip(done.rows, done.results, strict=True):
        n, n_cached = len(row.item.branch), row.item.branch.n_shared if kept else 0
        for query, one in zip(row.item.asks, told, strict=True):
            usage = Usage(prompt_tokens=n, cached_tokens=n_cached, completion_tokens=one.n_tokens)
            answers.append(
                Answer(
                    query_id=query.id,
                    sample=query.sample,
                    text=one.text,
                    usage=usage,
                    latency_s=seconds,
                )
            )
    return answers


def _tally(
    items: list[asks.Item], weights: list[Weights], done: Done, *, kept: bool, normalised: bool
) -> list[Answer]:
    """Note the weights of a batch; return the answers of the queries that have all of theirs."""
    answers: list[Answer] = []
    for row, told in zip(done.rows, done.results or itertools.repeat({}), strict=False):
        item, known = items[row.item], weights[row.item]
        for choice, pairs in row.reads.items():
            nats = told.get(choice)  # None where there was no memory for it
            known[choice] = None if nats is None else nats / (len(pairs) if normalised else 1)
        if len(known) == len(item.asks[0].choices):
            answers += _elected(
                item, known, row.twig.n_shared if kept else 0, done.seconds / len(done.rows)
            )
    return answers


def _elected(item: asks.Item, weights: Weights, n_cached: int, seconds: float) -> list[Answer]:
    """Return the likeliest choice for everyone who asks."""
    told = {choice: weights[i] for i, choice in enumerate(item.asks[0].choices)}
    known = {choice: nats for choice, nats in told.items() if nats is not None}
    if len(known) < len(told):
        return item.missing("failed", NO_MEMORY)
    usage = Usage(prompt_tokens=len(item.branch), cached_tokens=n_cached, completion_tokens=0)
    return item.answers(text=asks.likeliest(known), usage=usage, latency_s=seconds, logprobs=known)


@contextlib.contextmanager
def _threads(model: Any) -> Iterator[None]:
    """Hold a small model on the CPU to one thread: where cores are busy, threads wait for each
    other at every layer.
    """
    import torch

    before = torch.get_num_threads()
    if model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
