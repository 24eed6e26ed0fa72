"""Responses that no provider should send: malformed, endless, huge, slow, from elsewhere. Each is a
fault of its request, in words, within bounds of time and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import random
import resource
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from icl_harness.errors import AccountError, IclError, ProviderError
from icl_harness.models.api.bounds import answer_bytes, in_words, no_json_object
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.model import ApiModel
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Sampling
from tests.models.api.apis import KEY, NODE, ask, every_sdk, open_model, queries
from tests.quick import QUICK
from tests.servers.raw import RawServer, response

pytestmark = pytest.mark.usefixtures("planted_keys")

ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "fine"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    },
    "anthropic": {
        "id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "fine"}],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
    "google": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]},
                        "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "totalTokenCount": 4},
    },
}  # fmt: skip
ANSWERS["legacy"] = ANSWERS["google"]


def always(made: bytes) -> RawServer:
    return RawServer(lambda path, body: [made])


def body_of(sdk: str) -> bytes:
    return json.dumps(ANSWERS[sdk]).encode()


def chunked(*chunks: bytes, sizes: str = "") -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    parts = [
        f"{sizes or format(len(chunk), 'x')}\r\n".encode() + chunk + b"\r\n" for chunk in chunks
    ]
    return head + b"".join(parts) + b"0\r\n\r\n"


# The forms, each made of a good body. A library may read some of them all the same.
MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "a length that is no number": lambda body: response(body, length="many"),
    "a negative length": lambda body: response(body, length="-5"),
    "two lengths": lambda body: response(body, f"content-length: {len(body) + 7}"),
    "too short a length": lambda body: response(body, length=5),
    "too great a length": lambda body: response(body, length=len(body) + 100),
    "a length and chunks": lambda body: response(body, "transfer-encoding: chunked"),
    "a header that is too long": lambda body: response(body, f"x-long: {'x' * 9000}"),
    "a header of a megabyte": lambda body: response(body, f"x-long: {'x' * 1_000_000}"),
    "too many headers": lambda body: response(body, *(f"x-{i}: {i}" for i in range(40_000))),
    "a header without a name": lambda body: response(body, ": nothing"),
    "a header without a colon": lambda body: response(body, "nonsense and more"),
    "a header with a NUL": lambda body: response(body, "x-nul: a\0b"),
    "a bad size of a chunk": lambda body: chunked(body, sizes="zz"),
    "a negative size of a chunk": lambda body: chunked(body, sizes="-1"),
    "too large a size of a chunk": lambda body: chunked(body, sizes="ffffffff"),
    "no HTTP": lambda body: b"SSH-2.0-OpenSSH_9.6\r\n",
    "bytes of chance": lambda body: random.Random(7).randbytes(4000),
    "nothing": lambda body: b"",
    "a status that is no number": lambda body: response(body, status="abc OK"),
    "a status of four digits": lambda body: response(body, status="2000 OK"),
    "a status of a protocol unknown": lambda body: b"HTTP/9.9 200 OK\r\n\r\n" + body,
    "an encoding that is not there": lambda body: response(body, "content-encoding: gzip"),
    "a broken gzip": lambda body: response(gzip.compress(body)[:-9], "content-encoding: gzip"),
    "an encoding unknown": lambda body: response(b"\x1f\x2f\x3f", "content-encoding: nonsense"),
    "a charset unknown": lambda body: response(b"\xff\xfe\xfd", "content-type: a/b; charset=no"),
    "a switch of protocols": lambda body: response(b"", status="101 Switching Protocols"),
}  # fmt: skip
READ_ANYWAY = ("ok", "failed")


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize("form", MALFORMED)
def test_a_malformed_response_is_a_fault_of_its_request_alone(sdk: str, form: str) -> None:
    whole = body_of(sdk)
    bad, n_asked = MALFORMED[form](whole), itertools.count()

    def answer(path: str, body: bytes) -> list[bytes]:
        return [bad if next(n_asked) == 0 else response(whole)]

    with RawServer(answer) as server:
        first, second = ask(open_model(sdk, server, concurrency="1", timeout_s="3"), 2)
    assert first.status in READ_ANYWAY, form
    assert second.text == "fine", form
    if first.status == "failed":
        assert first.error, form
        assert "\n" not in first.error
        assert KEY not in first.error


@every_sdk
@pytest.mark.parametrize("form", ["no HTTP", "a header that is too long", "two lengths"])
def test_a_malformed_response_is_asked_again_and_counted_as_lost(sdk: str, form: str) -> None:
    whole = body_of(sdk)
    n_asked = itertools.count()

    def answer(path: str, body: bytes) -> list[bytes]:
        return [MALFORMED[form](whole) if next(n_asked) == 0 else response(whole)]

    with RawServer(answer) as server:
        [found] = ask(open_model(sdk, server, max_retries="1"))
    assert found.text == "fine"
    assert found.n_lost == len(server.requests) - 1


# What else is asked of a provider, beside answers.
async def count(model: ApiModel) -> object:
    counter = model.counter()
    counted = await counter.count(NODE, queries(2))
    return counter.notes, counted


async def submit(model: ApiModel) -> object:
    return [answer async for some in model.answers(NODE, queries(2), Sampling()) for answer in some]


async def list_caches(model: Any) -> object:
    return await model.cached_contents.find_all()


OTHERS = [
    *itertools.product(["openai", "anthropic", "google"], [count]),
    *itertools.product(["openai", "anthropic", "google"], [submit]),
    ("google", list_caches),
]


@pytest.mark.slow
@pytest.mark.parametrize("form", MALFORMED)
@pytest.mark.parametrize(("sdk", "what"), OTHERS)
def test_counting_batches_and_caches_meet_malformed_responses_as_faults(
    sdk: str, what: Callable[[ApiModel], Any], form: str
) -> None:
    bad = MALFORMED[form](b'{"input_tokens": "x"}')

    async def go(server: RawServer) -> object:
        terms = Terms(timing=QUICK, batch=what is submit, ledger=Ledger())
        name = "gpt-x" if sdk == "openai" else "some-model"
        model = open_model(sdk, server, name=name, terms=terms, timeout_s="3")
        try:
            return await what(model)
        finally:
            await model.close()

    # nothing else is raised, and nothing hangs
    with always(bad) as server, contextlib.suppress(IclError, Fault):
        asyncio.run(go(server))


def slowly(pieces: Iterable[bytes], wait_s: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(wait_s)


def as_bytes(whole: bytes) -> Iterator[bytes]:
    return (whole[i : i + 1] for i in range(len(whole)))


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
SLOW: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "its body a byte at a time": lambda whole: itertools.chain(
        [response(b"", length=len(whole))], slowly(as_bytes(whole), 0.2)
    ),
    "its headers a byte at a time": lambda whole: slowly(as_bytes(response(whole)), 0.2),
    "spaces without end": lambda whole: itertools.chain(
        [HEAD], slowly(itertools.repeat(b" "), 0.2)
    ),
    "empty chunks of a stream": lambda whole: itertools.chain(
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"],
        slowly(itertools.repeat(b"1\r\n \r\n"), 0.2),
    ),
    "an error's body a byte at a time": lambda whole: itertools.chain(
        [response(b"", status="500 Oops", length=1000)], slowly(itertools.repeat(b"x"), 0.2)
    ),
}  # fmt: skip


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize("form", SLOW)
def test_a_response_that_trickles_in_ends_at_the_deadline(sdk: str, form: str) -> None:
    with RawServer(lambda path, body: SLOW[form](body_of(sdk))) as server:
        start = time.monotonic()
        [answer] = ask(open_model(sdk, server, timeout_s="1"))
        took_s = time.monotonic() - start
    assert answer.status == "failed"
    assert took_s < 8
    assert answer.n_lost == 1


ZEROS = gzip.compress(b"[" + b"0," * (100 << 20), compresslevel=1)  # 200 MB in a megabyte
RAW_ZEROS = zlib.compress(b" " * (200 << 20), level=1)
PIECE = b'"' + b"x" * 65_535


def many(n: int) -> Iterator[bytes]:
    return itertools.repeat(PIECE, n)


LARGE: dict[str, Callable[[], Iterable[bytes]]] = {
    "200 MB at once": lambda: itertools.chain([response(b'{"a":', length=200 << 20)], many(3200)),
    "a body without end": lambda: itertools.chain([HEAD, b'{"a":'], itertools.repeat(PIECE)),
    "chunks without end": lambda: itertools.chain(
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"],
        itertools.repeat(b"10000\r\n" + PIECE + b"\r\n"),
    ),
    "a gzip bomb": lambda: [response(ZEROS, "content-encoding: gzip")],
    "a deflate bomb": lambda: [response(RAW_ZEROS, "content-encoding: deflate")],
    "a gzip in a gzip": lambda: [
        response(gzip.compress(ZEROS, 1), "content-encoding: gzip, gzip")
    ],
}  # fmt: skip


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize("form", LARGE)
def test_a_response_without_end_is_cut_where_the_room_for_the_answer_ends(
    sdk: str, form: str
) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RawServer(lambda path, body: LARGE[form]()) as server:
        start = time.process_time()
        answers = ask(open_model(sdk, server, concurrency="4", timeout_s="60"), 4)
        took_s = time.process_time() - start
    assert {answer.status for answer in answers} == {"failed"}
    errors = {answer.error for answer in answers}
    most = answer_bytes(Sampling().max_tokens)
    if sdk != "google" and sdk != "legacy":
        assert errors == {
            f"the response is longer than {most:,} bytes, more than the room for an answer takes"
        }
    grew_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grew_mb < 150, form
    assert took_s < 20


@every_sdk
def test_the_cap_follows_from_the_room_for_the_answer(sdk: str) -> None:
    def answer(path: str, body: bytes) -> list[bytes]:
        return [response(body_of(sdk)[:-1] + b" " * (2 << 20) + b"}")]

    with RawServer(answer) as server:
        [small] = ask(open_model(sdk, server))
        [large] = ask(open_model(sdk, server, reasoning_tokens="8192"))
    assert (small.status, large.text) == ("failed", "fine")


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_large_error_body_is_cut_before_it_is_read(sdk: str, status: int) -> None:
    message = json.dumps({"error": {"message": "y " * 5_000_000}})
    for text in ("x" * 10_000_000, message, "<p>" * 3_000_000):
        with always(response(text.encode(), status=f"{status} No")) as server:
            start = time.process_time()
            try:
                error = ask(open_model(sdk, server))[0].error or ""
            except ProviderError as stopped:
                error = str(stopped)
            assert time.process_time() - start < 3
        assert str(status) in error
        assert len(error) < 500


PLACES = ["http://127.0.0.1:9/elsewhere", "https://evil.example/v1", "/other", "//evil.example/x"]


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
def test_a_redirect_is_a_fault_that_names_the_place_and_no_key_follows(
    sdk: str, status: int
) -> None:
    with always(response(body_of(sdk))) as other:
        for place in [f"{other.url}/taken", *PLACES]:

            def answer(path: str, body: bytes, place: str = place) -> list[bytes]:
                return [response(b"", f"location: {place}", status=f"{status} Elsewhere")]

            with RawServer(answer) as server, pytest.raises(AccountError) as stopped:
                ask(open_model(sdk, server, max_retries="2"))
            said = str(stopped.value)
            assert f"{status}: redirected to {place}" in said
            assert "--base-url" in said
            assert "\n" not in said
            assert len(server.requests) == 1, "a redirect is no fault that passes"
    assert not other.requests


@every_sdk
def test_a_redirect_of_one_request_fails_it_and_that_of_all_ends_the_run(sdk: str) -> None:
    whole, n_asked = body_of(sdk), itertools.count()

    def answer(path: str, body: bytes) -> list[bytes]:
        n = next(n_asked)
        if n == 0 or (n != 1 and n < 4):
            return [response(whole)]
        return [response(b"", "location: /moved", status="307 Elsewhere")]

    with RawServer(answer) as server:
        model = open_model(sdk, server, concurrency="1")
        first, second, third = ask(model, 3)
        assert [first.text, second.status, third.text] == ["fine", "failed", "fine"]
        with pytest.raises(AccountError, match="redirected to /moved"):
            ask(model, 100)
    assert len(server.requests) < 4 + QUICK.unanswered + 2


def test_results_of_a_batch_are_fetched_from_no_other_server() -> None:
    """Anthropic names the place of a batch's results, and Gemini that of an upload."""
    with always(response(b"{}")) as other:
        batch = {
            "id": "msgbatch_1", "type": "message_batch", "processing_status": "ended",
            "created_at": "2026-11-24T00:00:00Z", "expires_at": "2026-11-25T00:00:00Z",
            "request_counts": dict.fromkeys(
                ("succeeded", "errored", "expired", "canceled", "processing"), 0
            ),
            "results_url": f"{other.url}/results",
        }  # fmt: skip
        begun = response(
            b"{}", f"x-goog-upload-url: {other.url}/up", "x-goog-upload-status: active"
        )

        def answer(path: str, body: bytes) -> list[bytes]:
            return [begun if "upload" in path else response(json.dumps(batch).encode())]

        async def go(sdk: str, server: RawServer) -> object:
            terms = Terms(timing=QUICK, batch=True, ledger=Ledger())
            model = open_model(sdk, server, terms=terms)
            try:
                return await submit(model)
            except ProviderError as error:
                return error
            finally:
                await model.close()

        for sdk in ("anthropic", "google"):
            with RawServer(answer) as server:
                came = asyncio.run(go(sdk, server))
            assert f"the server names {other.url} for the rest" in str(came)
    assert not other.requests


HTML = b"<!DOCTYPE html><html><head><title> Log in\n to the network</title></head><body>x</body>"
STREAM = b'data: {"id":"x","choices":[{"delta":{"content":"fi"}}]}\n\ndata: [DONE]\n\n'
WORDS = {
    "a page of HTML": (HTML, "a page of HTML or XML, titled 'Log in to the network'"),
    "a page without a title": (b"\n  <html><body>", "a page of HTML or XML"),
    "XML": (b"<?xml version='1.0'?><Error/>", "a page of HTML or XML"),
    "events": (STREAM, "a stream of events, which was not asked for: data: "),
    "named events": (b"event: ping\ndata: {}\n\n", "a stream of events"),
    "a comment of a stream": (b": OPENROUTER PROCESSING\n\n", "a stream of events"),
    "a text": (b"upstream connect error", "'upstream connect error' where a JSON object is due"),
    "a number": (b"42", "'42' where a JSON object is due"),
    "null": (b"null", "'null' where a JSON object is due"),
    "a JSON text": (b'"ok"', "where a JSON object is due"),
}  # fmt: skip


@every_sdk
@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/event-stream"])
@pytest.mark.parametrize("form", WORDS)
def test_what_is_no_json_is_said_in_words(sdk: str, form: str, kind: str) -> None:
    came, words = WORDS[form]
    made = response(came).replace(b"application/json", kind.encode())
    with always(made) as server:
        [answer] = ask(open_model(sdk, server))
    assert answer.status == "failed"
    assert words in (answer.error or "")


@every_sdk
@pytest.mark.parametrize("status", [400, 500])
def test_a_page_of_html_as_an_error_is_said_in_words(sdk: str, status: int) -> None:
    made = response(HTML, status=f"{status} Bad").replace(b"application/json", b"text/html")
    with always(made) as server:
        [answer] = ask(open_model(sdk, server))
    assert "a page of HTML or XML, titled 'Log in to the network'" in (answer.error or "")


def test_a_byte_order_mark_and_blanks_before_an_object_are_no_fault() -> None:
    for text in (b"\xef\xbb\xbf {}", b"\n\n\t[]", b"", '{"a": 1}'.encode("utf-16")):
        assert no_json_object(text) == ""
    assert in_words("data are missing") == "data are missing"


ODD: dict[str, object] = {
    "text": "12", "a fraction": 1.5, "a whole fraction": 3.0, "negative": -1, "true": True,
    "a list": [1], "an object": {"n": 1}, "huge": 2**63, "words": "many",
}  # fmt: skip
COUNTS = {
    "openai": ("usage", ["prompt_tokens", "completion_tokens"]),
    "anthropic": ("usage", ["input_tokens", "output_tokens"]),
    "google": ("usageMetadata", ["promptTokenCount", "totalTokenCount"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ODD)
@pytest.mark.parametrize("sdk", COUNTS)
def test_an_odd_usage_is_said_in_words(sdk: str, form: str) -> None:
    place, names = COUNTS[sdk]
    for name in names:
        made = json.loads(body_of(sdk))
        made[place][name] = ODD[form]
        with always(response(json.dumps(made).encode())) as server:
            [answer] = ask(open_model(sdk, server))
        if sdk != "anthropic" and form in {"text", "a whole fraction", "true"}:
            continue  # their SDKs read them as numbers
        assert answer.status == "failed", name
        assert "token" in (answer.error or "").lower(), answer.error
