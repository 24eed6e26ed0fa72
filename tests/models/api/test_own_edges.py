"""Queries' own edges: they follow the cache boundary, which stays at the shared node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

from icl_harness.models import open_model
from icl_harness.models.api.batch_file import BatchRequest, Shared
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Answer, Model, Sampling
from icl_harness.models.local.provider import DEMO_FOLDER
from icl_harness.prompts.tree import Edge, Node, Prompt, Query
from tests.models.api.apis import no_legacy
from tests.quick import QUICK
from tests.servers import LoopbackServer
from tests.servers.wire import Block

pytestmark = pytest.mark.usefixtures("planted_keys")
SHOTS = "".join(f"word{i} -> yes\n" for i in range(1500))  # 4,500 words: worth any cache
TEXT = Node("Answer.\n").child(SHOTS)
CHAT = Node("Answer.", role="system").child(SHOTS, role="user").child("yes", role="assistant")
OPEN_CHAT = CHAT.child("Go on:", role="user")  # ends in the user's turn
NODES = {"text": TEXT, "chat": CHAT, "a chat that ends with the user": OPEN_CHAT}
N_WORDS = {
    name: len(" ".join(edge.segment for edge in n.path).split()) for name, n in NODES.items()
}
MODELS = {
    "chat": ("openai/gpt-5.6", {}),
    "responses": ("openai/gpt-5.6", {"api": "responses"}),
    "messages": ("anthropic/claude-sonnet-4-5", {}),
    "gemini": ("google/gemini-2.5-flash", {}),
}
every_node = pytest.mark.parametrize("form", list(NODES))
every_model = pytest.mark.parametrize("kind", list(MODELS))


def own_edges(form: str, n: int, rng: random.Random) -> tuple[Edge, ...]:
    """Return `n` edges of words: of a text, or of turns that need not take turns."""
    roles = [""] if form == "text" else ["user", "assistant"]
    texts = [f"own{i} {rng.randrange(100)} -> no\n" for i in range(n)]
    return tuple(Edge(text=text, role=rng.choice(roles)) for text in texts)


def make_queries(form: str, seed: int) -> list[Query]:
    """Return queries of which every other one has edges of its own."""
    rng = random.Random(seed)
    return [
        Query(id=f"q{i}", text=f"query{i} ->", own=own_edges(form, i % 2 * i, rng))
        for i in range(8)
    ]


def flattened(node: Node, query: Query) -> list[tuple[str, str]]:
    """Return the turns of a whole prompt, as one path in the tree."""
    path = [(edge.role or "user", edge.segment) for edge in Prompt(node, query).leaf.path]
    return merged([*path, ("user", query.text)])


def merged(edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    turns = groupby(edges, key=lambda edge: edge[0])
    return [(role, "".join(text for _, text in turn)) for role, turn in turns]


def arrived(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    """Return the turns that a server was sent."""
    roles = {"model": "assistant", "developer": "system"}
    return merged([(roles.get(block.role, block.role), block.text) for block in blocks])


def ask(model: Model, node: Node, queries: Sequence[Query]) -> list[Answer]:
    async def collect() -> list[Answer]:
        try:
            stream = model.answers(node, queries, Sampling(max_tokens=16))
            return [answer async for answered in stream for answer in answered]
        finally:
            await model.close()

    return asyncio.run(collect())


@every_node
@every_model
def test_the_texts_that_arrive_are_those_of_the_flattened_prompt(kind: str, form: str) -> None:
    (id, args), node, queries = MODELS[kind], NODES[form], make_queries(form, 1)
    with LoopbackServer(lambda _: "fine", cache_minimum=1024) as server:
        url = server.base_url(id.partition("/")[0])
        answers = ask(open_model(id, base_url=url, model_args=args), node, queries)
    assert {answer.text for answer in answers} == {"fine"}
    asked = [request for request in server.requests if "cachedContents" not in request.path]
    sent = [arrived(request.blocks) for request in asked]
    assert sorted(sent) == sorted(flattened(node, query) for query in queries)


@no_legacy
@every_node
def test_googles_old_sdk_sends_them_too(form: str) -> None:
    node, queries = NODES[form], make_queries(form, 2)
    with LoopbackServer(lambda _: "fine") as server:
        args = {"sdk": "legacy"}
        url = server.base_url("google")
        ask(open_model("google/gemini-2.5-flash", base_url=url, model_args=args), node, queries)
    sent = [arrived(request.blocks) for request in server.requests]
    assert sorted(sent) == sorted(flattened(node, query) for query in queries)


@every_node
@every_model
def test_the_bill_shows_that_the_cache_ends_at_the_shared_node(kind: str, form: str) -> None:
    (id, args), node = MODELS[kind], NODES[form]
    with LoopbackServer(lambda _: "fine", cache_minimum=1024) as server:
        url = server.base_url(id.partition("/")[0])
        ask(open_model(id, base_url=url, model_args=args), node, make_queries(form, 3))
    bills = [bill for bill in server.bill if "cachedContents" not in bill.path]
    written = [n for bill in server.bill for n in bill.cache_write.values()]
    # Responses take no breakpoint in what the assistant said, which here is one word.
    boundary = N_WORDS[form] - (kind == "responses" and node.role == "assistant")
    assert written == [boundary], "once, and nothing of a query's own"
    assert sorted({bill.cache_read for bill in bills}) in ([0, boundary], [boundary])
    assert sum(bill.cache_read > 0 for bill in bills) >= len(bills) - 1


@every_node
@every_model
def test_batches_hold_them(kind: str, form: str, tmp_path: Path) -> None:
    (id, args), node, queries = MODELS[kind], NODES[form], make_queries(form, 4)
    terms = Terms(batch=True, ledger=Ledger(tmp_path), timing=QUICK)
    with LoopbackServer(lambda _: "fine") as server:
        url = server.base_url(id.partition("/")[0])
        model = open_model(id, base_url=url, model_args=args, terms=terms)
        assert len(ask(model, node, queries)) == len(queries)
        bodies = [item for batch in server.batches.values() for item in batch.items]
        sent = [arrived(server.wire_of(item.path).blocks(item.body)) for item in bodies]
    assert sorted(sent) == sorted(flattened(node, query) for query in queries)


@pytest.mark.parametrize("tokenizer", [None, str(DEMO_FOLDER)], ids=["text", "token ids"])
def test_completions_go_on_from_them(tokenizer: str | None) -> None:
    args = {"api": "completions", **({"tokenizer": tokenizer} if tokenizer else {})}
    node, queries = Node("Answer.\n").child("a -> x\n"), make_queries("text", 5)
    with LoopbackServer(lambda _: "fine") as server:
        model = open_model("openai/some", base_url=server.base_url("openai"), model_args=args)
        ask(model, node, queries)
    wanted = [node.text + query.tail for query in queries]
    prompts = [request.body["prompt"] for request in server.requests]
    if tokenizer:
        from tokenizers import Tokenizer

        encode = Tokenizer.from_file(f"{tokenizer}/tokenizer.json").encode
        assert sorted(prompts) == sorted(encode(text).ids for text in wanted)
    else:
        assert sorted(prompts) == sorted(wanted)


@every_model
def test_a_plan_counts_them(kind: str) -> None:
    id, args = MODELS[kind]
    queries = make_queries("chat", 6)

    async def count(model: Model) -> tuple[int, ...]:
        counted = await model.counter().count(CHAT, queries)
        await model.close()
        assert counted is not None
        return counted.queries

    with LoopbackServer(count=lambda text: len(text.encode())) as server:
        url = server.base_url(id.partition("/")[0])
        args = {**args, "context_window": "100000"}
        found = asyncio.run(count(open_model(id, base_url=url, model_args=args)))
    lengths = [len(query.tail) for query in queries]
    assert [n > found[0] for n in found[1::2]] == [True] * 4
    assert sorted(found) == [n for _, n in sorted(zip(lengths, found, strict=True))]


def test_requests_that_differ_in_them_alone_are_two() -> None:
    shared = Shared(node=TEXT, sampling=Sampling(), n_queries=3)
    own = (Edge(text="a"), Edge(text="b"))
    queries = [
        Query(id="q", text="c", own=own),
        Query(id="q", text="c", own=own[:1]),
        Query(id="q", text="c", own=(Edge(text="a", role="user"), own[1])),
    ]
    keys = set()
    for query in queries:
        keys.add(BatchRequest(shared=shared, query=query, arrived=asyncio.Queue()).key)
    assert len(keys) == 3
