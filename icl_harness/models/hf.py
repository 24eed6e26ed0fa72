"""Local models through `transformers`: `hf/<folder or hub id>`.

In: a node and its queries. Out: answers, a batch at a time. The node's keys and values are computed
once and extended for the next node (kv.py); its queries are fed in batches that hold their own
tokens only (row_batches.py), and are answered by generation or by the likelihood of their choices
(decode.py). Token ids are those of the whole text (tokens.py); of a chat, those of what the model's
own template writes of it (chat.py). Left out: keeping the keys and values of several paths at a
time (kv_disk.py keeps them between runs).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.answer_text import written
from icl_harness.models.base import (
    Answer,
    Capabilities,
    GoldLikelihood,
    KvCache,
    Model,
    Sampling,
    Usage,
)
from icl_harness.models.likeliest import likeliest, need_choices
from icl_harness.models.local import grouping
from icl_harness.models.local.chat import Chat, open_chat, why_no_chat
from icl_harness.models.local.choices import Candidate, candidate, chains, small, split
from icl_harness.models.local.grouping import Group, Tail
from icl_harness.models.local.tokens import Branch, Ids, TokenTree, Twig
from icl_harness.models.local.weights import one_line
from icl_harness.prompts.tree import Node, Query
from icl_harness.thoughts import opens_thought

if TYPE_CHECKING:
    from icl_harness.models.local.decode import Generated
    from icl_harness.models.local.kv import Runner
    from icl_harness.models.local.row_batches import Done

MAX_BATCH = 256  # rows per forward, unless --model-arg batch_size says otherwise
MAX_SAMPLES = 16  # of one text that share the prefill of its own tokens
NO_MEMORY = "out of memory, even for this query alone; fewer shots or a smaller dtype would fit"
# choice -> log-likelihood in nats; None where there was no memory for it
Weights = dict[int, float | None]


@dataclass(frozen=True, slots=True)
class _Row:
    """A text to go on from, as it is fed, and the requests for it."""

    group: Group
    twig: Twig


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the model reads for a node: the node of plain text in a tree of tokens, and each query's
    tail behind it. `turn_end`: what ends an answer that is a turn of a chat.
    """

    tree: TokenTree
    node: Node
    tail: Callable[[Query], Tail]
    turn_end: str = ""


class HfModel(Model):
    """A causal language model of `transformers`, from a folder or the hub, on CUDA where present,
    else on the CPU.

    `model_args` are those of `--model-arg`, as strings: `hf_open.Options` lists them. Raises
    `ModelError`. An answer's latency is its batch's wall time divided by the batch's rows; the
    prefill of the node is not in it.
    """

    gold_likelihood: GoldLikelihood = "weighed"

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
        from icl_harness.models.local.threads import few_threads
        from icl_harness.models.local.ways import open_prefix

        self.id = id or f"hf/{path_or_id}"
        self._options = options = hf_open.parse(model_args, self.id)
        self._model, tokenizer, self._origin = hf_open.load(path_or_id, options)
        self._chat = open_chat(tokenizer, one_turn=options.chat_template)
        self.no_chat = "takes shots as one turn only: --model-arg chat_template=true"
        if self._chat is None:
            self.no_chat = why_no_chat(tokenizer)
        self._tree, self._chats = TokenTree(tokenizer), TokenTree(tokenizer, spelt_out=True)
        self._texts = Texts(tokenizer)
        self._ends = hf_open.end_tokens(self._model, tokenizer)
        self._prefix: Any
        with few_threads(self._model):
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
        self.capabilities = Capabilities(chat=chat, context_window=window)

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
        reading = self._read(node)
        tail = reading.tail(Query(id="", text=query))
        if not tail.text:
            return reading.tree.count(reading.node)
        return len(grouping.tail_branches(reading.tree, reading.node, [tail])[0])

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers batch by batch, shortest queries first.

        A prompt that does not fit the window together with `max_tokens` (or with its longest
        choice) is an overflow. Raises `SpecError` where the scoring needs choices that a query does
        not have, or where the chat template has no place for a turn or changes its words.
        """
        from icl_harness.models.local.threads import few_threads

        self.check(node, queries)
        solve = self._generated if sampling.scoring == "generate" else self._chosen
        batches = solve(node, queries, sampling)
        while True:
            with few_threads(self._model):
                batch = next(batches, None)
            if batch is None:
                return
            if batch:
                yield batch
                await asyncio.sleep(0)

    def with_choices(
        self, node: Node, queries: Sequence[Query]
    ) -> tuple[Ids, list[tuple[Group, list[Branch]]]]:
        """Return the ids of a prefix, and each distinct query behind it with the tokens of what the
        model reads where it gives each of its choices as the answer.
        """
        reading = self._read(node, answered=True)
        tree = reading.tree
        groups = grouping.group(tree, reading.node, queries, grouping.by_choices, reading.tail)
        # an answer that is a turn begins with a word
        trim = str if tree is self._tree else str.lstrip
        branches = grouping.choice_branches(tree, reading.node, groups, trim, reading.turn_end)
        return tree.ids(reading.node), list(zip(groups, branches, strict=True))

    def in_chat(self, node: Node) -> bool:
        """Whether a prefix is put in the chat template."""
        return self._chat_of(node) is not None

    def check(self, node: Node, queries: Sequence[Query]) -> None:
        """Raise `SpecError` where the chat template has no place for a turn or changes words."""
        if (chat := self._chat_of(node)) is not None:
            chat.check(node, queries)

    @property
    def runner(self) -> Runner:
        """Return the forward pass of its weights, for those that train them."""
        runner: Runner = self._prefix.runner
        return runner

    def forget(self) -> None:
        """Drop all keys and values: the weights are others now."""
        self._prefix.forget()

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, with its room for thoughts."""
        return sampling.max_tokens + self._options.reasoning_tokens

    def describe(self) -> dict[str, Any]:
        """Return library versions, device, precision, the number of parameters, what the weights
        are, and in which way (ways.py) rows branch from a prefix, with the reason where it is not
        the fastest one.
        """
        from icl_harness.models.local import hf_open

        facts = hf_open.describe(self._model, self._origin)
        facts["branches"] = self._prefix.way
        if self._why:
            facts["because"] = self._why
        if self._steady:
            facts["window_held_to"] = self._steady
        return facts

    async def close(self) -> None:
        """Free the cache and the weights; the model cannot be used any more."""
        import torch

        self._model = self._prefix = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _window(self) -> int | None:
        """Return the window in tokens, held to where positions mean the same in all prompts. Raises
        `ModelError`.
        """
        from icl_harness.models.local import hf_open

        wanted, window = self._options.context_window, hf_open.context_window(self._model)
        steady = hf_open.steady_window(self._model)
        self._steady = (
            steady if steady is not None and (window is None or steady < window) else None
        )
        if steady is not None and wanted is not None and wanted > steady:
            raise ModelError(
                f"--model-arg context_window={wanted}: beyond {steady:,} tokens this model's "
                "rotary positions change with the length of the prompt, so that prompts share "
                f"nothing. Ask for at most {steady:,}."
            )
        return wanted or self._steady or window

    def _chat_of(self, node: Node) -> Chat | None:
        """Return the template that a prefix is put in; None where it is plain text. Raises
        `SpecError`.
        """
        if node.role and not self.capabilities.chat:
            raise SpecError(f"{self.id} {self.no_chat}. Use --format text.")
        return self._chat if node.role or self._options.chat_template else None

    def _read(self, node: Node, *, answered: bool = False) -> _Reading:
        """Return what the model reads for a prefix. `answered`: what follows is a given answer."""
        chat = self._chat_of(node)
        if chat is None:
            return _Reading(self._tree, node, grouping.text_tail)
        tail = partial(chat.behind, node, answered=answered)
        return _Reading(self._chats, chat.text(node), tail, chat.turn_end)

    def _generated(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> Iterator[list[Answer]]:
        """Feed each distinct text once. At temperature 0 all its samples are the same answer."""
        from icl_harness.models.local.row_batches import in_batches

        rows: list[_Row] = []
        limit = self._options.batch_size or MAX_BATCH
        reading = self._read(node)
        ids = reading.tree.ids(reading.node)
        greedy = sampling.temperature == 0
        window = self.capabilities.context_window
        sampling = replace(sampling, max_tokens=self.limit(sampling))
        groups = grouping.group(reading.tree, reading.node, queries, grouping.by_tail, reading.tail)
        for group in groups:
            misfit = grouping.misfit(len(group.branch), sampling.max_tokens, window)
            if misfit is not None:
                yield group.missing(*misfit)
                continue
            twig = Twig.chain(group.branch.opened(ids))
            at_once = len(group) if greedy else min(MAX_SAMPLES, limit)
            for start in range(0, len(group), at_once):
                same = group.queries[start : start + at_once]
                rows.append(_Row(group.with_queries(same), twig))
        copies = 1 if greedy else max((len(row.group) for row in rows), default=1)
        solve = partial(self._written, sampling)
        n_new = sampling.max_tokens
        for done in in_batches(
            self._prefix, ids, rows, limit, solve, _halves, n_new=n_new, copies=copies
        ):
            yield _written_answers(done, sampling, kept=self._keeps)

    def _written(self, sampling: Sampling, batch: Sequence[_Row]) -> list[list[Generated]]:
        """Return for each row what was generated for each request."""
        from icl_harness.models.local.decode import Continuation, generate

        only = 1 if sampling.temperature == 0 else None
        wanted: list[Continuation] = []
        for i, row in enumerate(batch):
            opened = opens_thought(row.group.tail.text)
            for query in row.group.queries[:only]:
                wanted.append(Continuation(i, query.seed, row.twig.own[-1], opened))
        twigs = [row.twig for row in batch]
        made = iter(generate(self._prefix, twigs, wanted, sampling, self._ends, self._texts))
        found: list[list[Generated]] = []
        for row in batch:
            texts = list(itertools.islice(made, len(row.group.queries[:only])))
            found.append(texts * (len(row.group) // len(texts)))
        return found

    def _chosen(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> Iterator[list[Answer]]:
        """Weigh the choices of each distinct query, which is fed once for all of them."""
        from icl_harness.models.local.decode import weigh
        from icl_harness.models.local.row_batches import in_batches

        need_choices(queries, sampling)
        window = self.capabilities.context_window
        ids, read = self.with_choices(node, queries)
        groups = [group for group, _ in read]
        rows: list[Candidate] = []
        for i, (group, choices) in enumerate(read):
            misfit = grouping.misfit(max(map(len, choices)), 0, window)
            if misfit is None:
                try:
                    row = candidate(i, ids, group.branch, choices)
                    rows += small(row) if self._prefix.trees else chains(row)
                except ValueError as error:
                    misfit = ("failed", f"query {group.queries[0].id}: {error}")
            if misfit is not None:
                yield group.missing(*misfit)
        wanted = max((len(row.wanted) for row in rows), default=1)
        tally = _Tally(groups, self._keeps, sampling.scoring == "choices-normalised")
        limit = self._options.batch_size or MAX_BATCH
        solve = partial(weigh, self._prefix)
        for done in in_batches(self._prefix, ids, rows, limit, solve, split, wanted=wanted):
            yield tally.add(done)


def _halves(row: _Row) -> list[_Row]:
    """Return a row as two, each with half of its requests; none where there is only one."""
    queries = row.group.queries
    if len(queries) == 1:
        return []
    parts = (queries[: len(queries) // 2], queries[len(queries) // 2 :])
    return [_Row(row.group.with_queries(part), row.twig) for part in parts]


def _written_answers(done: Done, sampling: Sampling, *, kept: bool) -> list[Answer]:
    """Return the answers of a batch; its results are a list of `Generated` per row, one for each
    request.

    `kept`: what a row shares with its node was not fed for it.
    """
    if done.results is None:
        missing = [row.group.missing("failed", NO_MEMORY) for row in done.rows]
        return list(itertools.chain.from_iterable(missing))
    seconds = done.seconds / len(done.rows)
    answers: list[Answer] = []
    for row, texts in zip(done.rows, done.results, strict=True):
        twig, opened = row.twig, opens_thought(row.group.tail.text)
        for query, one in zip(row.group.queries, texts, strict=True):
            usage = Usage(
                prompt_tokens=twig.n_shared + len(twig.own),
                cached_tokens=twig.n_shared if kept else 0,
                completion_tokens=one.n_tokens,
            )
            blank = Answer(query_id=query.id, sample=query.sample, text="", usage=usage)
            answer = written(blank, one.text, sampling, is_cut=one.cut, opened=opened)
            answers.append(replace(answer, latency_s=seconds))
    return answers


class _Tally:
    """The log-likelihoods of choices as batches bring them; a query is answered once it has all of
    its own.
    """

    def __init__(self, groups: Sequence[Group], kept: bool, normalised: bool) -> None:
        self._groups = groups
        self._kept = kept
        self._normalised = normalised
        self._weights: list[Weights] = [{} for _ in groups]

    def add(self, done: Done) -> list[Answer]:
        """Note what a batch found; return the answers of the queries that are complete."""
        answers: list[Answer] = []
        seconds = done.seconds / len(done.rows)
        results: Iterable[dict[int, float]] = done.results or itertools.repeat({})
        for row, found in zip(done.rows, results, strict=False):
            known = self._weights[row.item]
            for choice, pairs in row.reads.items():
                nats = found.get(choice)  # None where there was no memory for it
                n_tokens = len(pairs) if self._normalised else 1
                known[choice] = None if nats is None else nats / n_tokens
            group = self._groups[row.item]
            if len(known) == len(group.queries[0].choices):
                n_cached = row.twig.n_shared if self._kept else 0
                answers += _elected(group, known, n_cached, seconds)
        return answers


def _elected(group: Group, weights: Weights, n_cached: int, seconds: float) -> list[Answer]:
    """Return the likeliest choice for every request."""
    by_choice = {choice: weights[i] for i, choice in enumerate(group.queries[0].choices)}
    known = {choice: nats for choice, nats in by_choice.items() if nats is not None}
    if len(known) < len(by_choice):
        return group.missing("failed", NO_MEMORY)
    usage = Usage(prompt_tokens=len(group.branch), cached_tokens=n_cached, completion_tokens=0)
    best = likeliest(known)
    return group.answers(
        Answer(query_id="", text=best, usage=usage, latency_s=seconds, logprobs=known)
    )
