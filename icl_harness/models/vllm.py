"""Local models on vLLM: `vllm/<folder or hub id>`.

In: a node and its queries. Out: answers, all of a node's at a time. vLLM is handed token ids, which
TokenTree computes once per edge; its prefix cache, which is on, keeps the keys and values of all
that prompts begin with in common, from one query to the next and from one shot count to the next.
Choices are weighed by the log-probabilities of next tokens (trie.py), for vLLM turns that cache off
where it is asked for those of prompt tokens. Left out: chat templates; pictures; answers before
their whole call is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from icl_harness.errors import AccountError
from icl_harness.models.answer_text import read_answer, written
from icl_harness.models.base import (
    Answer,
    Capabilities,
    GoldLikelihood,
    Model,
    Sampling,
    Status,
    Usage,
    visible_stops,
)
from icl_harness.models.likeliest import likeliest, need_choices
from icl_harness.models.local import grouping, trie
from icl_harness.models.local.choices import candidate
from icl_harness.models.local.grouping import Group
from icl_harness.models.local.tokens import Branch, Ids, TokenTree
from icl_harness.models.local.weights import one_line
from icl_harness.prompts.tree import Node, Query

MAX_WANTED = 128  # tokens whose log-probability vLLM returns per prompt
MAX_IDS = (
    2**24
    # ids that the prompts of one call may have together; each takes 8 bytes here, and more on its
    # way
)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and the keyword arguments of its `SamplingParams`."""

    branch: Branch
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """What the engine returned for a request. `seconds`: its share of the call's wall time."""

    ids: list[int]
    logprobs: Mapping[int, float]  # of the first new token, where they were wanted
    cached_tokens: int
    seconds: float
    failed: bool
    cut: bool = False  # the limit on tokens ended it
    stopped: bool = False  # a stop string did


@dataclass(frozen=True, slots=True)
class Job:
    """A group of requests alike, what to ask the engine for it, and how to read its outputs.
    `again`: the job to do instead, where a stop string came too early.
    """

    group: Group
    requests: list[Request]
    read: Callable[[Sequence[Output]], list[Answer]]
    again: Callable[[Sequence[Output]], Job | None] = lambda outputs: None


class VllmModel(Model):
    """A causal language model on vLLM, from a folder or the hub; it needs a CUDA GPU.

    `model_args` are those of `--model-arg`, as strings: `vllm_open.Options` lists them. Raises
    `ModelError`. A sample has its request's own seed. vLLM may give other last bits of the logits
    in another batch (its VLLM_BATCH_INVARIANT=1 makes them equal, where the GPU can).
    """

    gold_likelihood: GoldLikelihood = "weighed"

    def __init__(self, path_or_id: str, *, id: str | None = None, **model_args: str) -> None:
        from icl_harness.models.local import vllm_open

        self.id = id or f"vllm/{path_or_id}"
        self._name = path_or_id
        self._options = vllm_open.parse(model_args, self.id)
        self._engine = vllm_open.load(path_or_id, self._options)

        from icl_harness.models.local.decode import (
            Texts,  # imports torch, which an absent vLLM must not wait for
        )

        tokenizer = self._engine.get_tokenizer()
        self._tree = TokenTree(tokenizer)
        self._texts = Texts(tokenizer)
        window = int(self._engine.model_config.max_model_len)
        self.capabilities = Capabilities(context_window=window)

    def count_tokens(self, node: Node, query: str = "") -> int:
        """Return the exact tokens of the prefix plus `query`."""
        return len(self._tree.branches(node, [query])[0]) if query else self._tree.count(node)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the answers of all queries from one call, of several calls where the prompts
        together are very long.

        A prompt that does not fit the window together with `max_tokens` (or with its longest
        choice) is an overflow. Raises `SpecError` where the scoring needs choices that a query does
        not have, `AccountError` where vLLM stops.
        """
        ids = self._tree.ids(node)
        jobs = self._generated if sampling.scoring == "generate" else self._chosen
        shared = ids.tolist()  # once: all prompts hold the same int objects
        for call in in_calls(jobs(node, ids, queries, sampling), MAX_IDS):
            while call:
                answers, call = self._done(shared, call)
                yield answers
                await asyncio.sleep(0)

    def _done(self, ids: list[int], call: Sequence[Job]) -> tuple[list[Answer], list[Job]]:
        """Return the answers of jobs, and the jobs to do in the place of those without."""
        requests = list(chain.from_iterable(job.requests for job in call))
        outputs = iter(self._call(ids, requests))
        answers, others = list[Answer](), list[Job]()
        for job in call:
            found = [next(outputs) for _ in job.requests]
            again = job.again(found)
            if again is None:
                answers += read(job, found)
            else:
                others.append(again)
        return answers, others

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, with its room for thoughts."""
        return sampling.max_tokens + self._options.reasoning_tokens

    def describe(self) -> dict[str, Any]:
        """Return library versions, device, precision and what the weights are."""
        from icl_harness.models.local import vllm_open

        return vllm_open.describe(self._engine, self._name, self._options)

    async def close(self) -> None:
        """Stop the engine, which frees its GPUs; the model cannot be used any more."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.llm_engine.engine_core.shutdown()

    def _generated(
        self, node: Node, ids: Ids, queries: Sequence[Query], sampling: Sampling
    ) -> Iterator[Job]:
        """Yield a job per distinct text at temperature 0, else per request."""
        sampling = replace(sampling, max_tokens=self.limit(sampling))
        window, greedy = self.capabilities.context_window, sampling.temperature == 0
        for group in grouping.group(
            self._tree, node, queries, grouping.by_tail, grouping.text_tail
        ):
            misfit = grouping.misfit(len(group.branch), sampling.max_tokens, window)
            if misfit is not None:
                yield lost(group, *misfit)
                continue
            branch = group.branch.opened(ids)
            for same in [group.queries] if greedy else [[query] for query in group.queries]:
                yield self._job(Group(group.tail, branch, same), sampling, sampling.stop)

    def _job(self, group: Group, sampling: Sampling, stop: tuple[str, ...]) -> Job:
        """Return the job of a text to generate; `stop` is what the engine is told to stop at."""
        from icl_harness.models.local.vllm_open import generating

        params = generating(replace(sampling, stop=stop), group.queries[0].seed)
        read, again = partial(self._written, group, sampling), None
        if stop:
            again = partial(self._again, group, sampling, stop)
        request = Request(group.branch, params)
        return Job(group, [request], read, again or (lambda outputs: None))

    def _again(
        self, group: Group, sampling: Sampling, stop: tuple[str, ...], outputs: Sequence[Output]
    ) -> Job | None:
        """Return the same job with fewer stop strings, where one came before the answer: in a
        thought, or in line ends before the first word. None where it is done.
        """
        [one] = outputs
        if one.failed or not one.stopped:
            return None
        reading = read_answer(self._text(group, one), sampling.stop)
        if reading.stopped:
            return None
        visible = visible_stops(stop)
        fewer = () if reading.is_open or visible == stop else visible
        return self._job(group, sampling, fewer)

    def _text(self, group: Group, output: Output) -> str:
        """Return the text of an output, as it reads after the prompt's last token."""
        [text] = self._texts.of([group.branch.own[-1]], [output.ids])
        return text

    def _chosen(
        self, node: Node, ids: Ids, queries: Sequence[Query], sampling: Sampling
    ) -> Iterator[Job]:
        """Yield a job per distinct query with its choices."""
        from icl_harness.models.local.vllm_open import weighing

        need_choices(queries, sampling)
        window = self.capabilities.context_window
        normalised = sampling.scoring == "choices-normalised"
        groups = grouping.group(self._tree, node, queries, grouping.by_choices, grouping.text_tail)
        branches = grouping.choice_branches(self._tree, node, groups)
        for i, (group, choices) in enumerate(zip(groups, branches, strict=True)):
            misfit = grouping.misfit(max(map(len, choices)), 0, window)
            if misfit is not None:
                yield lost(group, *misfit)
                continue
            try:
                odds = trie.ask_apart(candidate(i, ids, group.branch, choices), MAX_WANTED)
            except ValueError as error:
                yield lost(group, "failed", f"query {group.queries[0].id}: {error}")
                continue
            requests = [
                Request(question.branch, weighing(question.wanted)) for question in odds.questions
            ]
            yield Job(group, requests, partial(_weighed, group, odds, normalised))

    def _written(self, group: Group, sampling: Sampling, outputs: Sequence[Output]) -> list[Answer]:
        """Return the answers of a text that was generated."""
        [one] = outputs
        usage = Usage(
            prompt_tokens=len(group.branch),
            cached_tokens=one.cached_tokens,
            completion_tokens=len(one.ids),
        )
        blank = Answer(query_id="", text="", usage=usage, latency_s=one.seconds)
        return group.answers(written(blank, self._text(group, one), sampling, is_cut=one.cut))

    def _call(self, ids: list[int], requests: Sequence[Request]) -> list[Output]:
        """Ask the engine, which blocks until it has answered them all. `ids` are the node's."""
        if not requests:
            return []
        from vllm import SamplingParams, TokensPrompt

        started = time.perf_counter()
        try:
            prompts = [
                TokensPrompt(
                    prompt_token_ids=[*ids[: request.branch.n_shared], *request.branch.own]
                )
                for request in requests
            ]
            params = [SamplingParams(**request.params) for request in requests]
            outputs = self._engine.generate(prompts, params, use_tqdm=False)
        except Exception as error:
            # an engine that died, or refuses what the checks before let through
            raise AccountError(
                f"{self.id}: vLLM stopped ({type(error).__name__}): {one_line(error)}"
            ) from error
        seconds = (time.perf_counter() - started) / len(requests)
        return [_output(output, seconds) for output, _ in zip(outputs, requests, strict=True)]


def lost(group: Group, status: Status, error: str) -> Job:
    """Return the job of a group that there is no use in asking the engine for."""
    return Job(group, [], lambda outputs: group.missing(status, error))


def in_calls(jobs: Iterable[Job], most: int) -> Iterator[list[Job]]:
    """Split jobs so that the prompts of a call have at most `most` ids together, or belong to a
    single job.
    """
    call: list[Job] = []
    n = 0
    for job in jobs:
        more = sum(len(request.branch) for request in job.requests)
        if call and n + more > most:
            yield call
            call, n = [], 0
        call.append(job)
        n += more
    if call:
        yield call


def read(job: Job, outputs: Sequence[Output]) -> list[Answer]:
    """Return the answers of a job; they are missing where the engine gave up on one of its
    requests.
    """
    if any(one.failed for one in outputs):
        return job.group.missing("failed", "vLLM gave up on this request")
    return job.read(outputs)


def _weighed(
    group: Group, odds: trie.Trie, normalised: bool, outputs: Sequence[Output]
) -> list[Answer]:
    """Return the likeliest choice for every request. The first question's prompt is the query's
    own.
    """
    nats = odds.weigh([one.logprobs for one in outputs], normalised=normalised)
    weights = dict(zip(group.queries[0].choices, nats, strict=True))
    n = len(group.branch)
    n_cached = min(n, outputs[0].cached_tokens)
    usage = Usage(prompt_tokens=n, cached_tokens=n_cached, completion_tokens=0)
    seconds = sum(one.seconds for one in outputs)
    best = likeliest(weights)
    return group.answers(
        Answer(query_id="", text=best, usage=usage, latency_s=seconds, logprobs=weights)
    )


def _output(output: Any, seconds: float) -> Output:
    """Read vLLM's `RequestOutput`."""
    [one] = output.outputs
    first = one.logprobs[0] if one.logprobs else {}
    return Output(
        ids=list(one.token_ids),
        logprobs={token: logprob.logprob for token, logprob in first.items()},
        cached_tokens=output.num_cached_tokens or 0,
        seconds=seconds,
        failed=one.finish_reason in ("abort", "error"),
        cut=one.finish_reason == "length",
        stopped=isinstance(one.stop_reason, str),
    )
