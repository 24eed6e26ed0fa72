"""The loopback server through the official SDKs: each endpoint's form, the accounts it keeps, what
it refuses.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from tests.servers import LoopbackServer

MANY = "word " * 1500  # above every minimum of a cache
EPHEMERAL = {"type": "ephemeral"}
JSONL = {"mime_type": "application/jsonl"}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def openai_client(server: LoopbackServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="k", base_url=server.base_url("openai"), max_retries=0, timeout=10
    ) as client:
        yield client


@contextlib.contextmanager
def anthropic_client(server: LoopbackServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0, timeout=10) as client:
        yield client


@contextlib.contextmanager
def google_client(server: LoopbackServer) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=server.url, timeout=10_000)
    with genai.Client(api_key="k", vertexai=False, http_options=options) as client:
        yield client


def chat(client: openai.OpenAI, content: Any, model: str = "gpt-4o", **more: Any) -> Any:
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], **more
    )


def message(client: anthropic.Anthropic, *blocks: Any, **more: Any) -> Any:
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    return client.messages.create(
        model="claude", max_tokens=4000, messages=[{"role": "user", "content": content}], **more
    )


def marked(text: str, **more: str) -> Any:
    return {"type": "text", "text": text, "cache_control": {**EPHEMERAL, **more}}


def last_word(prompt: str) -> str:
    return prompt.split()[-1]


# OpenAI


def test_chat_takes_several_messages_of_strings_and_parts() -> None:
    with LoopbackServer(last_word) as server, openai_client(server) as client:
        answer = client.chat.completions.create(
            model="gpt-4o",
            messages=[
                {"role": "system", "content": "Answer."},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "x"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "b "}, {"type": "text", "text": "c"}],
                },
            ],
        )
    assert answer.choices[0].message.content == "c"
    assert server.requests[0].prompt == "Answer.\na\nx\nb c"
    assert [block.role for block in server.requests[0].blocks] == [
        "system",
        "user",
        "assistant",
        "user",
        "user",
    ]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 1)


def test_responses_think_before_they_answer_and_say_where_the_limit_cut() -> None:
    with LoopbackServer(lambda _: "w " * 40) as server, openai_client(server) as client:
        server.n_reasoning = 9
        part: Any = {"type": "input_text", "text": "why?"}
        item: Any = {"role": "user", "content": [part]}
        whole = client.responses.create(model="gpt-5", input=[item], instructions="Answer.")
        cut = client.responses.create(model="gpt-5", input="why?", max_output_tokens=16)
        spent = client.responses.create(
            model="gpt-5", input="why?", max_output_tokens=16, reasoning={"effort": "none"}
        )
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert (whole.status, whole.output_text) == ("completed", "w " * 40)
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (2, 49)
    assert whole.usage.output_tokens_details.reasoning_tokens == 9
    assert cut.incomplete_details is not None
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert len(cut.output_text.split()) == 7
    assert len(spent.output_text.split()) == 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_output_tokens": 15},
        {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
        {"extra_body": {"stop": ["x"]}},
        {"temperature": 0},
    ],
)
def test_responses_refuse_what_the_provider_refuses(wrong: dict[str, Any]) -> None:
    with (
        LoopbackServer() as server,
        openai_client(server) as client,
        pytest.raises(openai.BadRequestError),
    ):
        client.responses.create(**{"model": "gpt-5", "input": "x", **wrong})
    assert server.bill == []


def test_tokens_are_counted_without_a_bill() -> None:
    with LoopbackServer() as server:
        with openai_client(server) as client:
            assert client.responses.input_tokens.count(model="m", input="a b c").input_tokens == 3
        with anthropic_client(server) as claude:
            counted = claude.messages.count_tokens(
                model="m", system="a b", messages=[{"role": "user", "content": "c d e"}]
            )
            assert counted.input_tokens == 5
        with google_client(server) as gemini:
            assert gemini.models.count_tokens(model="m", contents="a b c d").total_tokens == 4
    assert server.bill == []


def test_completions_echo_the_prompt_with_its_log_probabilities() -> None:
    vocabulary = ["The", " cat", " sat"]
    scores = {" cat": -1.0, " sat": -2.0, " mat": -3.0}
    with (
        LoopbackServer(
            lambda _: " mat",
            decode=lambda ids: "".join(vocabulary[i] for i in ids),
            logprob=lambda before, token: scores[token],
        ) as server,
        openai_client(server) as client,
    ):
        scored = client.completions.create(
            model="m", prompt=[[0, 1], [0, 2]], max_tokens=0, echo=True, logprobs=1
        )
        said = client.completions.create(model="m", prompt="The cat", max_tokens=3, logprobs=0)
    assert [choice.text for choice in scored.choices] == ["The cat", "The sat"]
    assert scored.choices[1].logprobs is not None
    assert scored.choices[1].logprobs.model_dump() == {
        "text_offset": [0, 3],
        "token_logprobs": [None, -2.0],
        "tokens": ["The", " sat"],
        "top_logprobs": [None, {" sat": -2.0}],
    }
    assert scored.usage is not None
    assert scored.usage.completion_tokens == 0
    assert said.choices[0].logprobs is not None
    assert (said.choices[0].text, said.choices[0].logprobs.token_logprobs) == (" mat", [-3.0])


def test_decisions_give_probabilities_to_each_question_about_one_input() -> None:
    asked: Any = [
        {"type": "choice", "name": "q", "instructions": "colour?",
         "choices": [{"value": "red"}, {"value": "blue"}, {"value": True}]},
        {"type": "predicate", "instructions": "big?"},
        {"type": "score", "instructions": "how?", "levels": [{"label": "a"}, {"label": "b"}]},
    ]  # fmt: skip
    said = {"colour?": "red", "big?": "yes", "how?": "b"}
    with (
        LoopbackServer(lambda prompt: said[last_word(prompt)]) as server,
        openai_client(server) as client,
    ):
        decided = client.decisions.create(model="gpt-6-luna", input="It glows.", questions=asked)
        with pytest.raises(openai.BadRequestError):
            client.decisions.create(model="gpt-6-luna", input="x", questions=asked[:1] * 401)
        with pytest.raises(openai.NotFoundError):
            client.decisions.create(model="gpt-4o", input="x", questions=asked[:1])
    choice, predicate, score = decided.answers
    assert choice.type == "choice"
    assert (choice.name, choice.choice, choice.probabilities[2].value) == ("q", "red", True)
    assert sum(p.probability for p in choice.probabilities) == pytest.approx(1)
    assert predicate.type == "predicate"
    assert predicate.probability == pytest.approx(0.9)
    assert score.type == "score"
    assert score.score == pytest.approx(0.9)
    assert decided.usage.input_tokens == 2 + 4 + 1 + 3


def test_older_openai_models_read_the_longest_common_prefix_in_steps_of_128_tokens() -> None:
    clock = Clock()
    with LoopbackServer(lambda _: "x", clock=clock) as server, openai_client(server) as client:
        used = [
            chat(client, text, prompt_cache_key=key).usage.prompt_tokens_details
            for text, key in [
                (MANY + "a", "k"),
                (MANY + "b", "k"),
                (MANY + "b", "other"),
                ("word " * 1023, "k"),
            ]
        ]
        clock.now += 601
        used.append(chat(client, MANY, prompt_cache_key="k").usage.prompt_tokens_details)
    assert [u.cached_tokens for u in used] == [0, 1500 // 128 * 128, 0, 0, 0]
    assert {u.cache_write_tokens for u in used} == {0}


def test_the_common_prefix_of_long_prompts_is_found_where_they_part() -> None:
    words = [f"w{i}" for i in range(30_000)]
    with LoopbackServer(lambda _: "x") as server, openai_client(server) as client:
        read = []
        for n in (30_000, 20_000, 9_000, 1_100, 30_000):
            answer = chat(client, " ".join([*words[:n], *["other"] * (30_000 - n)]))
            read.append(answer.usage.prompt_tokens_details.cached_tokens)
    # The last prompt is the first one again; its last word has no space after it.
    assert read == [0, *(n // 128 * 128 for n in (20_000, 9_000, 1_100, 29_999))]


def test_newer_openai_models_write_at_breakpoints_only_and_report_it() -> None:
    mark = {"mode": "explicit"}
    shots: Any = [{"type": "text", "text": MANY, "prompt_cache_breakpoint": mark}]
    more: Any = [
        *shots,
        {"type": "text", "text": MANY, "prompt_cache_breakpoint": {**mark, "ttl": "12h"}},
    ]

    def used(parts: Any, **options: Any) -> tuple[int, int]:
        details = chat(
            client, parts, "gpt-5.6", prompt_cache_options=options or mark
        ).usage.prompt_tokens_details
        return details.cached_tokens, details.cache_write_tokens

    with LoopbackServer(lambda _: "x") as server, openai_client(server) as client:
        query = {"type": "text", "text": "a query"}
        assert used([*shots, query]) == (0, 1500)
        assert used([*shots, query]) == (1500, 0)
        assert used([*more, query]) == (1500, 1500)
        assert used([*more, query]) == (3000, 0)
        assert used([*shots, query], mode="implicit") == (
            1500,
            2,
        )  # OpenAI's own breakpoint, after the query
        assert used([{"type": "text", "text": MANY}]) == (
            0,
            0,
        )  # without a breakpoint, nothing is cached
        with pytest.raises(openai.BadRequestError):
            chat(client, shots, "gpt-4o")
    assert [bill.cache_write for bill in server.bill] == [
        {"30m": 1500},
        {},
        {"12h": 1500},
        {},
        {"30m": 2},
        {},
    ]


def test_a_string_above_openais_limit_and_a_prompt_above_the_window_are_refused_by_code() -> None:
    with (
        LoopbackServer(max_string=100, context_window=50) as server,
        openai_client(server) as client,
    ):
        with pytest.raises(openai.BadRequestError) as long:
            chat(client, "x" * 101)
        with pytest.raises(openai.BadRequestError) as wide:
            chat(
                client,
                [{"type": "text", "text": "x " * 40}, {"type": "text", "text": "y " * 11}],
            )
    assert (long.value.code, wide.value.code) == (
        "string_above_max_length",
        "context_length_exceeded",
    )
    assert server.bill == []


def batch_file(
    client: openai.OpenAI, names: list[str], url: str = "/v1/chat/completions", **body: Any
) -> str:
    lines = [
        {"custom_id": name, "method": "POST", "url": url, "body": {
            "model": "gpt-4o", "messages": [{"role": "user", "content": f"say {name}"}], **body}}
        for name in names
    ]  # fmt: skip
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return client.files.create(file=("in.jsonl", data), purpose="batch").id


def open_batch(client: openai.OpenAI, names: list[str], **body: Any) -> Any:
    return client.batches.create(
        input_file_id=batch_file(client, names, **body), endpoint="/v1/chat/completions",
        completion_window="24h", metadata={"run": "r"},
    )  # fmt: skip


def read_lines(client: openai.OpenAI, file_id: str) -> list[Any]:
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_an_openai_batch_round_trips_with_what_fails_in_a_file_of_its_own() -> None:
    fates = {"bad": "failed", "twice": "duplicate"}
    with (
        LoopbackServer(last_word, batch_fault=fates.get) as server,
        openai_client(server) as client,
    ):
        created = open_batch(client, ["a", "bad", "twice"])
        states = [client.batches.retrieve(created.id) for _ in range(3)]
        done = states[-1]
        good, bad = read_lines(client, done.output_file_id), read_lines(client, done.error_file_id)
        [listed] = client.batches.list().data
    assert [created.status, *(state.status for state in states)] == [
        "validating", "in_progress", "completed", "completed"
    ]  # fmt: skip
    answers = [
        (line["custom_id"], line["response"]["body"]["choices"][0]["message"]["content"])
        for line in good
    ]
    assert answers == [("a", "a"), ("twice", "twice"), ("twice", "twice")]
    assert [(line["custom_id"], line["response"]["status_code"]) for line in bad] == [("bad", 500)]
    assert done.request_counts.model_dump() == {"completed": 2, "failed": 1, "total": 3}
    assert (listed.id, listed.metadata) == (created.id, {"run": "r"})
    assert [bill.batch for bill in server.bill] == [True, True]


def test_an_openai_batch_that_expires_keeps_what_was_answered() -> None:
    fates = {"late": "expired"}
    with (
        LoopbackServer(last_word, batch_polls=0, batch_fault=fates.get) as server,
        openai_client(server) as client,
    ):
        batch = client.batches.retrieve(open_batch(client, ["a", "late"]).id)
        [good], [bad] = (
            read_lines(client, batch.output_file_id),
            read_lines(client, batch.error_file_id),
        )
    assert (batch.status, good["custom_id"], bad["custom_id"]) == ("expired", "a", "late")
    assert bad["error"]["code"] == "batch_expired"


def test_an_openai_batch_can_be_cancelled_and_then_costs_nothing() -> None:
    with LoopbackServer() as server, openai_client(server) as client:
        batch = open_batch(client, ["a"])
        assert client.batches.cancel(batch.id).status == "cancelling"
        assert client.batches.retrieve(batch.id).status == "cancelled"
    assert server.bill == []


def test_openai_batches_refuse_files_too_large_and_fail_those_not_well_formed() -> None:
    with (
        LoopbackServer(batch_bytes=2000, batch_requests=3) as server,
        openai_client(server) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            batch_file(client, ["a"], pad="x" * 2000)
        batches = [open_batch(client, names) for names in (["a", "b", "c", "d"], ["a", "a"])]
        ended = [client.batches.retrieve(batch.id) for batch in batches]
    assert caught.value.status_code == 413
    assert [batch.status for batch in ended] == ["failed", "failed"]
    assert [batch.errors.data[0].code for batch in ended] == [
        "too_many_tasks",
        "duplicate_custom_id",
    ]


# Anthropic


def test_messages_think_before_they_answer_and_take_a_temperature_as_an_extra() -> None:
    with LoopbackServer(last_word) as server, anthropic_client(server) as client:
        server.n_reasoning = 5
        thought = message(
            client, "a b", system="S.", thinking={"type": "enabled", "budget_tokens": 1024}
        )
        plain = message(client, "a b", extra_body={"temperature": 0})
        with pytest.raises(anthropic.BadRequestError):
            message(
                client, "a", thinking={"type": "enabled", "budget_tokens": 1024},
                extra_body={"temperature": 0}
            )  # fmt: skip
    assert [block.type for block in thought.content] == ["thinking", "text"]
    assert (thought.content[1].text, thought.usage.input_tokens, thought.usage.output_tokens) == (
        "b",
        3,
        6,
    )
    assert [block.type for block in plain.content] == ["text"]
    assert [(bill.output, bill.reasoning) for bill in server.bill] == [(6, 5), (6, 5)]


def claude_usage(answer: Any) -> tuple[int, int, int, int]:
    used, made = answer.usage, answer.usage.cache_creation
    assert (
        used.cache_creation_input_tokens
        == made.ephemeral_5m_input_tokens + made.ephemeral_1h_input_tokens
    )
    five, hour = made.ephemeral_5m_input_tokens, made.ephemeral_1h_input_tokens
    return used.input_tokens, used.cache_read_input_tokens, five, hour


def test_anthropic_writes_at_breakpoints_reads_them_and_lets_them_expire() -> None:
    clock = Clock()
    with LoopbackServer(lambda _: "x", clock=clock) as server, anthropic_client(server) as client:
        ask: Callable[..., Any] = lambda *blocks: claude_usage(message(client, *blocks))  # noqa: E731
        assert ask(marked(MANY, ttl="1h"), "a b") == (2, 0, 0, 1500)
        assert ask(marked(MANY, ttl="1h"), "c") == (1, 1500, 0, 0)
        assert ask(marked(MANY, ttl="1h"), marked(MANY), "d") == (1, 1500, 1500, 0)
        assert ask(marked(MANY, ttl="1h"), marked(MANY), "d") == (1, 3000, 0, 0)
        clock.now += 299
        assert ask(MANY, marked(MANY), "e") == (1, 3000, 0, 0)  # which refreshes the entry
        clock.now += 299
        assert ask(MANY, marked(MANY), "e") == (1, 3000, 0, 0)
        clock.now += 301
        assert ask(marked(MANY, ttl="1h"), marked(MANY), "f") == (1, 1500, 1500, 0)
        clock.now += 3601
        assert ask(marked(MANY, ttl="1h"), "g") == (1, 0, 0, 1500)
        assert ask(marked("too short"), "h") == (3, 0, 0, 0)
    first = server.bill[0]
    assert (first.provider, first.model, first.input, first.cache_write) == (
        "anthropic",
        "claude",
        2,
        {"1h": 1500},
    )


def test_anthropic_looks_back_twenty_blocks_from_a_breakpoint() -> None:
    with LoopbackServer(lambda _: "x") as server, anthropic_client(server) as client:
        message(client, marked(MANY), "q")
        for n in (21, 20):
            used = claude_usage(message(client, MANY, *["s "] * (n - 1), marked("end"), "q"))
            assert used[1] == (0 if n == 21 else 1500)


def test_anthropic_misses_at_the_same_time_each_write() -> None:
    barrier = threading.Barrier(4)

    def reply(prompt: str) -> str:
        if last_word(prompt) != "alone":
            barrier.wait(timeout=60)
        return "x"

    with (
        LoopbackServer(reply) as server,
        anthropic_client(server) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        together = list(
            pool.map(lambda i: claude_usage(message(client, marked(MANY), f"q{i}")), range(4))
        )
        assert claude_usage(message(client, marked(MANY), "alone"))[1:3] == (1500, 0)
    assert [used[2] for used in together] == [1500] * 4


@pytest.mark.parametrize("blocks", [[marked("a")] * 5, [marked("a"), marked("b", ttl="1h")], [" "]])
def test_anthropic_refuses_what_the_provider_refuses(blocks: list[Any]) -> None:
    with (
        LoopbackServer() as server,
        anthropic_client(server) as client,
        pytest.raises(anthropic.BadRequestError),
    ):
        message(client, *blocks)


def requests(*names: str) -> list[Any]:
    messages = {name: [{"role": "user", "content": f"say {name}"}] for name in names}
    return [
        {
            "custom_id": name,
            "params": {"model": "claude", "max_tokens": 9, "messages": messages[name]},
        }
        for name in names
    ]


def test_an_anthropic_batch_round_trips_by_custom_id() -> None:
    fates = {"bad": "failed", "late": "expired", "twice": "duplicate"}
    names = ["a", "bad", "late", "twice"]
    with (
        LoopbackServer(last_word, batch_fault=fates.get) as server,
        anthropic_client(server) as client,
    ):
        created = client.messages.batches.create(requests=requests(*names))
        states = [client.messages.batches.retrieve(created.id) for _ in range(2)]
        results = list(client.messages.batches.results(created.id))
        assert [batch.id for batch in client.messages.batches.list()] == [created.id]
    assert [batch.processing_status for batch in [created, *states]] == [
        "in_progress",
        "in_progress",
        "ended",
    ]
    assert sorted((line.custom_id, line.result.type) for line in results) == [
        ("a", "succeeded"), ("bad", "errored"), ("late", "expired"), ("twice", "succeeded"),
        ("twice", "succeeded"),
    ]  # fmt: skip
    texts = {
        r.custom_id: r.result.message.content[0].text
        for r in results
        if r.result.type == "succeeded"
    }
    assert texts == {"a": "a", "twice": "twice"}
    assert states[-1].request_counts.succeeded == 2
    assert [bill.batch for bill in server.bill] == [True, True]


def test_an_anthropic_batch_can_be_cancelled_and_its_limits_refuse() -> None:
    with (
        LoopbackServer(batch_requests=2, batch_bytes=1000) as server,
        anthropic_client(server) as client,
    ):
        batch = client.messages.batches.create(requests=requests("a"))
        assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
        assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
        assert [line.result.type for line in client.messages.batches.results(batch.id)] == [
            "canceled"
        ]
        for wrong in (["a", "b", "c"], ["a", "a"], ["not allowed"]):
            with pytest.raises(anthropic.BadRequestError):
                client.messages.batches.create(requests=requests(*wrong))
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.batches.create(requests=[{**requests("a")[0], "pad": "x" * 1000}])
    assert caught.value.status_code == 413
    assert server.bill == []


# Gemini


def test_gemini_takes_turns_a_system_instruction_and_shows_thoughts_when_asked() -> None:
    contents = [types.Content(role=role, parts=[types.Part(text=text)]) for role, text in zip(
        ("user", "model", "user"), "abc", strict=True
    )]  # fmt: skip
    with LoopbackServer(last_word) as server, google_client(server) as client:
        server.n_reasoning = 4
        thinking = types.ThinkingConfig(include_thoughts=True)
        answer = client.models.generate_content(
            model="gemini",
            contents=contents,
            config=types.GenerateContentConfig(system_instruction="S.", thinking_config=thinking),
        )
    assert answer.candidates is not None
    assert answer.candidates[0].content is not None
    assert [part.thought for part in answer.candidates[0].content.parts or []] == [True, None]
    assert (answer.text, server.requests[0].prompt) == ("c", "S.\na\nb\nc")
    used = answer.usage_metadata
    assert used is not None
    assert (used.prompt_token_count, used.candidates_token_count, used.thoughts_token_count) == (
        4,
        1,
        4,
    )


def cached(name: str | None) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(cached_content=name)


def test_a_cached_content_is_read_until_it_expires_or_is_deleted() -> None:
    clock = Clock()
    with LoopbackServer(last_word, clock=clock) as server, google_client(server) as client:
        config: Any = {"contents": [MANY], "ttl": "300s", "display_name": "node"}
        made = client.caches.create(model="gemini", config=config)
        assert made.usage_metadata is not None
        assert made.usage_metadata.total_token_count == 1500
        answer = client.models.generate_content(
            model="gemini", contents="a b", config=cached(made.name)
        )
        used = answer.usage_metadata
        assert used is not None
        assert (answer.text, used.prompt_token_count, used.cached_content_token_count) == (
            "b",
            1502,
            1500,
        )
        assert server.requests[-1].prompt == MANY + "a b"
        clock.now += 299
        assert made.name is not None
        client.caches.update(name=made.name, config={"ttl": "300s"})
        clock.now += 299
        assert client.caches.get(name=made.name).display_name == "node"
        assert [cache.name for cache in client.caches.list()] == [made.name]
        with pytest.raises(errors.ClientError, match="has to be the same"):
            client.models.generate_content(model="other", contents="a", config=cached(made.name))
        clock.now += 2
        second = client.caches.create(model="gemini", config=config)
        client.caches.delete(name=second.name or "")
        for name in (made.name, second.name):
            with pytest.raises(errors.ClientError, match="CachedContent not found") as caught:
                client.models.generate_content(model="gemini", contents="a", config=cached(name))
            assert (caught.value.code, caught.value.status) == (403, "PERMISSION_DENIED")
        assert list(client.caches.list()) == []
    assert [(bill.input, bill.cache_read, bill.cache_write) for bill in server.bill] == [
        (0, 0, {"cached_content": 1500}), (2, 1500, {}), (0, 0, {"cached_content": 1500}),
    ]  # fmt: skip


def test_a_cached_content_below_the_minimum_is_refused() -> None:
    told = "total_token_count=1500, min_total_token_count=4096"
    with (
        LoopbackServer(cache_minimum=lambda _: 4096) as server,
        google_client(server) as client,
        pytest.raises(errors.ClientError, match=told) as caught,
    ):
        client.caches.create(model="gemini", config={"contents": [MANY]})
    assert caught.value.status == "INVALID_ARGUMENT"


def wait_for(client: genai.Client, name: str | None) -> types.BatchJob:
    for _ in range(3):
        job = client.batches.get(name=name or "")
    return job


def test_a_gemini_batch_of_inlined_requests_answers_in_their_order() -> None:
    inlined: Any = [{"contents": f"say {i}", "metadata": {"key": f"k{i}"}} for i in range(3)]
    fates = {"1": "failed"}
    with (
        LoopbackServer(last_word, batch_fault=fates.get) as server,
        google_client(server) as client,
    ):
        created = client.batches.create(model="gemini", src=inlined, config={"display_name": "d"})
        states = [created.state, client.batches.get(name=created.name or "").state]
        done = wait_for(client, created.name)
        assert [job.display_name for job in client.batches.list()] == ["d"]
    assert [state and state.name for state in states] == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING"]
    assert done.state is not None
    assert done.state.name == "JOB_STATE_SUCCEEDED"
    assert done.dest is not None
    answers = done.dest.inlined_responses or []
    assert [r.response.text if r.response else r.error and r.error.code for r in answers] == [
        "0",
        13,
        "2",
    ]
    assert answers[2].metadata == {"key": "k2"}
    assert [bill.batch for bill in server.bill] == [True, True]


def test_a_gemini_batch_of_a_file_answers_in_a_file() -> None:
    lines = [
        {"key": f"k{i}", "request": {"contents": [{"parts": [{"text": f"say {i}"}]}],
                                     "generation_config": {"max_output_tokens": 9}}}
        for i in range(3)
    ]  # fmt: skip
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with LoopbackServer(last_word) as server, google_client(server) as client:
        file = client.files.upload(file=io.BytesIO(data), config=types.UploadFileConfig(**JSONL))
        assert (file.size_bytes, file.state and file.state.name) == (len(data), "ACTIVE")
        job = wait_for(client, client.batches.create(model="gemini", src=file.name or "").name)
        assert job.dest is not None
        assert job.dest.file_name is not None
        results = client.files.download(file=job.dest.file_name)
        client.files.delete(name=file.name or "")
        with pytest.raises(errors.ClientError):
            client.batches.create(model="gemini", src=file.name or "")
    answers = [json.loads(line) for line in results.splitlines()]
    texts = [
        (a["key"], a["response"]["candidates"][0]["content"]["parts"][0]["text"]) for a in answers
    ]
    assert texts == [("k0", "0"), ("k1", "1"), ("k2", "2")]


def test_a_gemini_file_of_several_chunks_arrives_whole() -> None:
    data = bytes(range(256)) * (9 * 4096)  # more than the SDK's chunk of 8 MiB
    with LoopbackServer() as server, google_client(server) as client:
        file = client.files.upload(file=io.BytesIO(data), config=types.UploadFileConfig(**JSONL))
    assert server.files[file.name or ""].data == data


def test_a_gemini_batch_can_be_cancelled_and_its_limits_refuse() -> None:
    with LoopbackServer(batch_requests=1) as server, google_client(server) as client:
        job = client.batches.create(model="gemini", src=[{"contents": "a"}])
        client.batches.cancel(name=job.name or "")
        ended = client.batches.get(name=job.name or "")
        with pytest.raises(errors.ClientError, match="At most 1 requests"):
            client.batches.create(model="gemini", src=[{"contents": "a"}, {"contents": "b"}])
    assert ended.state is not None
    assert ended.state.name == "JOB_STATE_CANCELLED"
    assert server.bill == []


# Limits, windows, faults


def test_openai_says_what_is_left_of_the_minute_and_when_to_come_back() -> None:
    clock = Clock()
    with (
        LoopbackServer(lambda _: "x", rpm=60, tpm=600, clock=clock) as server,
        openai_client(server) as client,
    ):
        raw = client.chat.completions.with_raw_response.create
        ask: Callable[[int], Any] = lambda n: raw(  # noqa: E731
            model="m", messages=[{"role": "user", "content": "w " * n}]
        )
        headers = ask(500).headers
        with pytest.raises(openai.RateLimitError) as caught:
            ask(200)
        clock.now += 10
        ask(200)
        with pytest.raises(openai.RateLimitError):
            ask(601)
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == (
        "600",
        "100",
    )
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-tokens"] == "50.000s"
    assert caught.value.response.headers["retry-after"] == "10"
    assert len(server.bill) == 2


def test_anthropic_limits_leave_out_what_is_read_from_a_cache() -> None:
    with (
        LoopbackServer(lambda _: "x", tpm=1600, clock=Clock()) as server,
        anthropic_client(server) as client,
    ):
        for _ in range(3):
            message(client, marked(MANY), "q")
        with pytest.raises(anthropic.RateLimitError) as caught:
            message(client, MANY)
    headers = caught.value.response.headers
    assert headers["anthropic-ratelimit-tokens-limit"] == "1600"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "97"
    assert headers["anthropic-ratelimit-tokens-reset"].startswith("2027-01-15T08:")
    assert int(headers["retry-after"]) == 53


def test_gemini_names_the_delay_in_the_body() -> None:
    with (
        LoopbackServer(lambda _: "x", rpm=1, clock=Clock()) as server,
        google_client(server) as client,
    ):
        client.models.generate_content(model="m", contents="a")
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model="m", contents="a")
    assert caught.value.code == 429
    assert caught.value.details["error"]["details"][-1]["retryDelay"] == "60s"


def test_a_prompt_beyond_the_window_is_each_providers_overflow() -> None:
    with LoopbackServer(context_window=10) as server:
        with (
            anthropic_client(server) as claude,
            pytest.raises(anthropic.BadRequestError) as of_claude,
        ):
            message(claude, "w " * 11)
        with google_client(server) as gemini, pytest.raises(errors.ClientError) as of_gemini:
            gemini.models.generate_content(model="m", contents="w " * 11)
    assert "prompt is too long: 11 tokens > 10 maximum" in str(of_claude.value)
    assert "The input token count (11) exceeds the maximum number of tokens allowed (10)" in str(
        of_gemini.value
    )


@pytest.mark.parametrize("fault", ["lost", "reset_after", "stall", "truncated", "garbage"])
def test_an_answer_lost_on_the_way_is_billed_and_its_cache_written(fault: str) -> None:
    with LoopbackServer(lambda _: "x", stall_s=0.1) as server, anthropic_client(server) as client:
        server.fail_next(fault)
        with pytest.raises((anthropic.APIError, ValueError)):
            message(client, marked(MANY), "q")
        assert claude_usage(message(client, marked(MANY), "q"))[1] == 1500
    assert [bill.delivered for bill in server.bill] == [False, True]


@pytest.mark.parametrize("fault", ["rate", "500", "529", "reset"])
def test_a_fault_before_the_answer_leaves_no_trace(fault: str) -> None:
    with LoopbackServer(lambda _: "x") as server, anthropic_client(server) as client:
        server.fail_next(fault, fault)
        with pytest.raises(anthropic.APIError):
            message(client, marked(MANY), "q")
        with pytest.raises(anthropic.APIError):
            client.messages.batches.create(requests=requests("a"))
        assert claude_usage(message(client, marked(MANY), "q"))[1] == 0
        assert client.messages.batches.list().data == []
    assert len(server.bill) == 1


def test_a_batch_whose_creation_was_not_heard_of_is_there_all_the_same() -> None:
    with LoopbackServer() as server, anthropic_client(server) as client:
        server.fail_next("reset_after")
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.batches.create(requests=requests("a"))
        assert len(client.messages.batches.list().data) == 1


@pytest.mark.slow
def test_an_answer_to_a_client_that_has_hung_up_is_lost() -> None:
    released = threading.Event()
    with LoopbackServer(lambda _: str(released.wait(timeout=60))) as server:
        with openai_client(server) as client, pytest.raises(openai.APITimeoutError):
            chat(client, "a", timeout=1)
        released.set()
        with openai_client(server) as client:
            chat(client, "b")
        while server.in_flight or len(server.bill) < 2:
            time.sleep(0.01)
    assert sorted(bill.delivered for bill in server.bill) == [False, True]


def test_items_of_a_batch_miss_the_caches_that_they_write_and_read_those_before_them() -> None:
    def cached_batch(client: anthropic.Anthropic) -> list[tuple[int, int]]:
        content = [marked(MANY), {"type": "text", "text": "q"}]
        params: Any = {
            "model": "claude",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": content}],
        }
        made = client.messages.batches.create(
            requests=[{"custom_id": n, "params": params} for n in "ab"]
        )
        client.messages.batches.retrieve(made.id)
        used = [
            claude_usage(line.result.message) for line in client.messages.batches.results(made.id)
        ]
        return [(read, written) for _, read, written, _ in used]

    with LoopbackServer(lambda _: "x", batch_polls=0) as server, anthropic_client(server) as client:
        assert cached_batch(client) == [(0, 1500)] * 2
        assert cached_batch(client) == [(1500, 0)] * 2


def test_lists_come_in_pages_the_newest_first() -> None:
    with LoopbackServer() as server:
        with openai_client(server) as client:
            ids = [open_batch(client, ["a"]).id for _ in range(3)]
            assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]
        with anthropic_client(server) as claude:
            made = [claude.messages.batches.create(requests=requests("a")).id for _ in range(3)]
            assert [batch.id for batch in claude.messages.batches.list(limit=2)] == made[::-1]
        with google_client(server) as gemini:
            jobs = [
                gemini.batches.create(model="gemini", src=[{"contents": "a"}]).name
                for _ in range(3)
            ]
            assert [job.name for job in gemini.batches.list(config={"page_size": 2})] == jobs[::-1]


def test_a_body_of_another_shape_is_refused_by_each_endpoint() -> None:
    posts = [
        "chat/completions",
        "responses",
        "completions",
        "decisions",
        "messages",
        "batches",
        "files",
    ]
    with LoopbackServer() as server, openai_client(server) as client:
        for path in [
            *posts,
            "messages/batches",
            "messages/count_tokens",
            "responses/input_tokens",
            "cachedContents",
        ]:
            with pytest.raises(openai.BadRequestError):
                client.post(f"/{path}", cast_to=object, body={"model": "m", "messages": 3})
    assert len(server.requests) == 11


@pytest.mark.slow
def test_misbehaviour_comes_again_with_its_seed_and_every_answer_gets_through() -> None:
    def fates(seed: int) -> tuple[list[str], dict[str, int]]:
        with (
            LoopbackServer(last_word, stall_s=0.05, keep_bodies=False) as server,
            openai_client(server) as client,
        ):
            drawn = server.misbehave(seed=seed, share=0.4)
            tries = []
            for i in range(60):
                for n in range(1, 20):  # noqa: B007
                    with contextlib.suppress(openai.APIError, ValueError):
                        assert chat(client, f"say w{i}").choices[0].message.content == f"w{i}"
                        break
                tries.append(f"{i}: {n}")
            assert sum(bill.delivered for bill in server.bill) == 60
            assert {request.prompt for request in server.requests} == {""}
            return tries, dict(drawn.met)

    tries, met = fates(1)
    assert (tries, met) == fates(1)
    assert fates(2)[0] != tries
    assert len(met) >= 8


def test_misbehaviour_reaches_the_items_of_batches() -> None:
    names = [f"n{i}" for i in range(60)]
    with LoopbackServer(last_word, batch_polls=0) as server, anthropic_client(server) as client:
        server.misbehave(seed=3, share=0.5, kinds=("duplicate", "failed", "expired"))
        batch = client.messages.batches.retrieve(
            client.messages.batches.create(requests=requests(*names)).id
        )
        lines = list(client.messages.batches.results(batch.id))
    counts = batch.request_counts
    assert min(counts.errored, counts.expired, counts.succeeded) > 0
    assert len(lines) > len({line.custom_id for line in lines}) == 60
    assert len(server.bill) == counts.succeeded


@pytest.mark.slow
def test_a_hundred_requests_of_a_megabyte_at_once_are_answered() -> None:
    shared = "word " * 200_000

    def ask(i: int) -> int:
        answer = message(client, marked(shared), f"q{i}")
        assert answer.content[0].text == f"q{i}"
        return int(answer.usage.cache_read_input_tokens)

    with LoopbackServer(last_word, keep_bodies=False) as server:
        client = anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0, timeout=250)
        with client, ThreadPoolExecutor(100) as pool:
            ask(0)
            assert set(pool.map(ask, range(1, 101))) == {200_000}
