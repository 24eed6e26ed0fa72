"""Several queries in one request: they are numbered, and so are their answers.

In: the queries of a cell. Out: the requests that are sent (`Request`), and each query's own answer
out of the reply. After Jiang et al. 2024, "Many-Shot In-Context Learning in Multimodal Foundation
Models" (batched queries). One query a request is sent as it is. Left out: another request for an
answer that a reply lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from icl_harness.errors import SpecError
from icl_harness.models.base import Answer, Sampling, share_usage, share_whole, truncate_at_stop
from icl_harness.prompts.tree import Query
from icl_harness.runner.numbered_answers import parse_answers

INSTRUCTION = (
    "Answer each of the {n} numbered queries below. Begin each answer on a line of its own, with "
    'the number of its query and a colon, as in "1: …". Give one answer to each, and nothing else.'
)
ENDING = "Answers:\n"
NUMBER_TOKENS = 8  # what an answer's number and line break may take

Key = tuple[str, int]  # the id of a query and the number of its sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is sent, and the queries that it stands for: itself alone, where it is no group."""

    query: Query
    members: tuple[Query, ...]

    @property
    def is_group(self) -> bool:
        """Whether the answers stand under numbers."""
        return self.query is not self.members[0]

    @property
    def key(self) -> Key:
        """Return what identifies the request within its cell."""
        return self.query.id, self.query.sample

    @property
    def keys(self) -> list[Key]:
        """Return what identifies the members among the queries of the cell."""
        return [(query.id, query.sample) for query in self.members]


def make_requests(queries: Sequence[Query], n: int) -> list[Request]:
    """Return the requests for all queries of a cell, `n` in each; the last may hold fewer.

    Raises `SpecError` where queries that are to share a request have own edges.
    """
    if n == 1:
        return [Request(query=query, members=(query,)) for query in queries]
    if any(query.own for query in queries):
        raise SpecError(
            "--queries-per-request: queries that are each shown other shots cannot share a "
            "request. Leave it out, or the variant that selects the shots."
        )
    return [_group(queries[i : i + n]) for i in range(0, len(queries), n)]


def _group(members: Sequence[Query]) -> Request:
    numbered = [f"{i}: {query.text.strip()}" for i, query in enumerate(members, 1)]
    text = "\n\n".join([INSTRUCTION.format(n=len(members)), *numbered, ENDING])
    first = members[0]
    query = Query(
        id=f"{first.id} and {len(members) - 1} more",
        text=text,
        sample=first.sample,
        seed=first.seed,
    )
    return Request(query=query, members=tuple(members))


def group_sampling(sampling: Sampling, n: int) -> Sampling:
    """Return how replies of `n` answers are made; what would stop one answer must not stop them
    all.
    """
    if n == 1:
        return sampling
    return replace(sampling, max_tokens=n * (sampling.max_tokens + NUMBER_TOKENS), stop=())


def split_answer(
    request: Request, answer: Answer, stop: Sequence[str]
) -> Iterator[tuple[Query, Answer, bool]]:
    """Yield (query, its answer, whether it was found under its number) of a reply, in the order of
    the queries.

    What the request cost is shared out among them. An answer that was not found is the whole reply.
    """
    n = len(request.members)
    texts = parse_answers(answer.text, n) if answer.text is not None else [None] * n
    usages, lost = share_usage(answer.usage, n), share_whole(answer.n_lost, n)
    for i, query in enumerate(request.members):
        found = texts[i]
        text = answer.text if found is None else truncate_at_stop(found, stop)
        whole = answer.whole if found is None else answer.whole or answer.text
        own = replace(
            answer,
            query_id=query.id,
            sample=query.sample,
            text=text,
            whole=whole,
            usage=usages[i],
            n_lost=lost[i],
        )
        yield query, own, found is not None
