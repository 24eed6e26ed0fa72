"""Counting tokens before anything is asked: by the provider, by a tokenizer, by an estimate that is
said.
"""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiktoken

from icl_harness.errors import AccountError
from icl_harness.models import open_model as open_any
from icl_harness.models.api.counting import COUNTED, ESTIMATE
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Model
from icl_harness.models.forecast import Count, Counter
from icl_harness.models.local.provider import DEMO_FOLDER
from icl_harness.models.scripted import ScriptedModel
from icl_harness.prompts.tree import Edge, Node, Query
from tests.models.api.apis import CLASSES, KEY, NODE, no_legacy, open_model
from tests.servers import LoopbackServer

CHAT = (
    Node("Be brief.", role="system")
    .child("a ->", role="user")
    .child("x", role="assistant")
    .child("b ->", role="user")
)
ENDPOINTS = {
    "openai": "/v1/responses/input_tokens",
    "anthropic": "/v1/messages/count_tokens",
    "google": "/v1/models/gpt-x:countTokens",
}
counting_sdks = pytest.mark.parametrize("sdk", list(ENDPOINTS))
pytestmark = pytest.mark.usefixtures("planted_keys")


def count(
    model: Model, *asked: tuple[Node, list[str]], counter: Counter | None = None
) -> list[Count | None]:
    """Count one after the other."""

    async def all_of() -> list[Count | None]:
        teller = counter or model.counter()
        try:
            return [
                await teller.count(node, [Query(id=t, text=t) for t in texts])
                for node, texts in asked
            ]
        finally:
            await model.close()

    return asyncio.run(all_of())


def n_bytes(text: str) -> int:
    return len(text.encode())


@counting_sdks
def test_a_node_is_counted_by_the_provider_once_however_many_queries_hang_off_it(sdk: str) -> None:
    with LoopbackServer(count=n_bytes) as server:
        first, again = count(
            open_model(sdk, server, "gpt-x"), (NODE, ["one ->", "four ->"]), (NODE, ["three ->"])
        )
    assert first == Count(prefix=NODE.n_bytes, queries=(6, 7), how=COUNTED)
    assert again == Count(prefix=NODE.n_bytes, queries=(8,), how=COUNTED)
    assert [request.path for request in server.requests] == [ENDPOINTS[sdk]]
    assert KEY not in str(server.requests[0].body)


@counting_sdks
@pytest.mark.parametrize("order", [(0, 3), (3, 0)])
def test_queries_with_more_shots_of_their_own_are_counted_apart_in_whatever_order(
    sdk: str, order: tuple[int, int]
) -> None:
    def with_overhead(text: str) -> int:  # so that short and long prompts differ in their rates
        return 50 + len(text.encode()) // 3

    def query(n_own: int) -> Query:
        own = tuple(Edge(text=f"shot {i} " * 40) for i in range(n_own))
        return Query(id=str(n_own), text="one ->", own=own)

    async def count_all(model: Model, *numbers: int) -> list[Count | None]:
        counter = model.counter()
        try:
            await asyncio.gather(*(counter.count(NODE, [query(n)]) for n in numbers))
            return [await counter.count(NODE, [query(n)]) for n in numbers]
        finally:
            await model.close()

    with LoopbackServer(count=with_overhead) as server:
        together = asyncio.run(count_all(open_model(sdk, server, "gpt-x"), *order))
        assert len(server.requests) == 2
        alone = [asyncio.run(count_all(open_model(sdk, server, "gpt-x"), n))[0] for n in order]
    assert together == alone
    assert None not in alone


@counting_sdks
def test_the_turns_of_a_chat_are_counted_all(sdk: str) -> None:
    with LoopbackServer(count=n_bytes) as server:
        (told,) = count(open_model(sdk, server, "gpt-x"), (CHAT, ["c ->"]))
    assert told is not None
    assert told.prefix == CHAT.n_bytes
    assert told.how == COUNTED


@pytest.mark.slow
@counting_sdks
@pytest.mark.parametrize("fault", ["missing", "invalid", "500"])
def test_a_server_that_does_not_count_leaves_the_estimate_and_is_not_asked_again(
    sdk: str, fault: str
) -> None:
    with LoopbackServer() as server:
        server.fail_always(fault)
        model = open_model(sdk, server, "gpt-x")
        counter = model.counter()
        first, other = count(model, (NODE, ["one ->"]), (CHAT, ["one ->"]), counter=counter)
    assert first == Count(prefix=round(NODE.n_bytes / 3), queries=(2,), how=ESTIMATE)
    assert other is not None
    assert other.estimated
    assert len(counter.notes) == 1
    assert counter.notes[0].startswith(f"{model.id}: tokens are estimated, as counting failed: ")
    assert len(server.requests) <= 3


class Page(BaseHTTPRequestHandler):
    """A proxy that answers whatever it is asked with a page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b"<html>Welcome</html>"
        self.send_response(200)
        for name, value in (("content-type", "text/html"), ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.mark.slow
@counting_sdks
def test_a_page_of_html_leaves_the_estimate_and_says_why(sdk: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as pages:
        threading.Thread(target=pages.serve_forever, args=(0.02,), daemon=True).start()
        cls = CLASSES[sdk]
        model = cls("gpt-x", id="a/gpt-x", base_url=f"http://127.0.0.1:{pages.server_address[1]}")
        counter = model.counter()
        (told,) = count(model, (NODE, ["one ->"]), counter=counter)
        pages.shutdown()
    assert told is not None
    assert told.how == ESTIMATE
    assert len(counter.notes) == 1
    assert "tokens are estimated, as counting failed: " in counter.notes[0]


@pytest.mark.slow
@counting_sdks
def test_a_server_that_is_not_there_leaves_the_estimate(sdk: str) -> None:
    with LoopbackServer() as server:
        model = open_model(sdk, server, "gpt-x")
    (told,) = count(model, (NODE, ["one ->"]))
    assert told is not None
    assert told.how == ESTIMATE


@counting_sdks
def test_a_refused_key_stops_with_one_line_that_does_not_hold_it(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_always("auth")
        model = open_model(sdk, server, "gpt-x")
        with pytest.raises(AccountError, match="Check") as caught:
            count(model, (NODE, ["one ->"]))
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sdk", ["openai", "anthropic", "google", pytest.param("legacy", marks=no_legacy)]
)
def test_without_a_key_nothing_is_sent_and_the_estimate_says_so(
    sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CLASSES[sdk].service.key_names:
        monkeypatch.delenv(name, raising=False)
    with LoopbackServer() as server:
        cls = CLASSES[sdk]
        model = cls(
            "gpt-x",
            id="a/gpt-x",
            base_url=server.base_url(cls.service.provider),
            terms=Terms(keyless=True),
        )
        (told,) = count(model, (NODE, ["one ->"]))
    assert told == Count(prefix=round(NODE.n_bytes / 3), queries=(2,), how=ESTIMATE)
    assert not server.requests


def test_another_vendors_model_on_a_compatible_server_is_not_counted_there() -> None:
    with LoopbackServer() as server:
        (told,) = count(open_model("openai", server, "llama"), (NODE, ["one ->"]))
    assert told is not None
    assert told.how == ESTIMATE
    assert not server.requests


def test_tiktoken_counts_where_its_file_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {bytes([i]): i for i in range(256)} | {b"->": 256}
    encoding = tiktoken.Encoding(
        "toy", pat_str=r"->|.|\n", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: encoding)
    with LoopbackServer() as server:
        (told,) = count(open_model("openai", server, "gpt-x"), (NODE, ["one ->", "é ->"]))
    assert told == Count(
        prefix=NODE.n_bytes - NODE.text.count("->"), queries=(5, 4), how="tiktoken"
    )
    assert not server.requests


def test_a_model_behind_a_server_is_counted_by_the_tokenizer_that_is_named() -> None:
    with LoopbackServer() as server:
        args = {"api": "completions", "tokenizer": str(DEMO_FOLDER)}
        model = open_any("openai/llama", base_url=server.base_url("openai"), model_args=args)
        (told,) = count(model, (NODE, ["one ->"]))
    expected = len(model.tree.branches(NODE, ["one ->"])[0])
    assert told is not None
    assert (told.prefix + told.queries[0], told.how) == (expected, "its tokenizer")


def test_a_model_here_counts_by_its_tokenizer_and_one_without_tokens_gives_none() -> None:
    class Untold(ScriptedModel):
        def count_tokens(self, node: Node, query: str = "") -> None:
            return None

    words = Count(prefix=len(NODE.text.split()), queries=(3,), how="its tokenizer")
    assert count(ScriptedModel(lambda prompt: ""), (NODE, ["one two ->"])) == [words]
    assert count(Untold(lambda prompt: ""), (NODE, ["one ->"])) == [None]
