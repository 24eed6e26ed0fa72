"""Completions of compatible servers: text or token ids on the wire, and choices weighed by what the
server echoes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import transformers

from icl_harness.errors import ModelError, SpecError
from icl_harness.models import open_model
from icl_harness.models.api.model import ApiModel
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.local.provider import DEMO_FOLDER
from icl_harness.prompts.tree import Node, Query
from tests.models.api.apis import NODE
from tests.servers import LoopbackServer
from tests.servers.openai_wire import CompletionsWire, hashed_logprob, pieces
from tests.servers.wire import Json, Made, Refused, Request

pytestmark = pytest.mark.usefixtures("planted_keys")
CHOICES = {"red": " red", "blue": " blue sky", "one": " 1\n"}
WEIGH = Sampling(scoring="choices")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(lambda prompt: " " + prompt.split()[-2].upper()) as running:
        yield running


def ask(
    server: LoopbackServer,
    queries: Sequence[Query],
    sampling: Sampling | None = None,
    node: Node = NODE,
    **args: str,
) -> list[Answer]:
    model = open_model(
        "openai/some-model",
        base_url=server.base_url("openai"),
        model_args={"api": "completions", "max_retries": "0", **args},
    )

    async def collect() -> list[Answer]:
        try:
            return [
                a
                async for answers in model.answers(node, queries, sampling or Sampling())
                for a in answers
            ]
        finally:
            await model.close()

    return sorted(asyncio.run(collect()), key=lambda answer: answer.query_id)


def query(text: str = "c ->", choices: dict[str, str] | None = None, id: str = "q") -> Query:
    choices = CHOICES if choices is None else choices
    return Query(
        id=id, text=text, choices=tuple(choices), continuations=tuple(choices.values()), seed=5
    )


def use(server: LoopbackServer, wire: type[CompletionsWire]) -> None:
    """Let a server speak another dialect of completions."""
    server.wires[:] = [wire(server) if type(w) is CompletionsWire else w for w in server.wires]


def test_the_prompt_is_bare_text_with_standard_fields_only(server: LoopbackServer) -> None:
    sampling = Sampling(max_tokens=9, temperature=0.5, stop=("\n", "Q"))
    [answer] = ask(server, [query("c ->")], sampling)
    assert (answer.text, answer.status) == (" C", "ok")
    assert server.requests[0].body == {
        "model": "some-model", "max_tokens": 9, "temperature": 0.5, "stop": ["Q"], "seed": 5,
        "prompt": "Answer.\na -> x\nb -> y\nc ->",
    }  # fmt: skip
    assert server.requests[0].path == "/v1/completions"
    bill = server.bill[0]
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (bill.input, bill.output) == (9, 1)


def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(DEMO_FOLDER)


def test_with_a_tokenizer_the_prompt_is_the_ids_of_the_whole_text(server: LoopbackServer) -> None:
    tokens = tokenizer()
    server.decode = tokens.decode
    node, texts = NODE, ["c ->", "", " -", "\nd -> ", "12 34 ->"]
    for _ in range(2):
        server.requests.clear()
        asked = [query(text, id=f"q{i}") for i, text in enumerate(texts)]
        ask(server, asked, node=node, tokenizer=str(DEMO_FOLDER), concurrency="1")
        sent = [request.body["prompt"] for request in server.requests]
        assert sent == [tokens(node.text + text)["input_ids"] for text in texts]
        node = node.child("e -> z ").child(" f")
    assert len(sent[0]) > 5


def nats(tokens: Sequence[str], begin: int) -> float:
    """Return what the loopback server says of tokens, from one on."""
    return sum(hashed_logprob("".join(tokens[:i]), tokens[i]) for i in range(begin, len(tokens)))


@pytest.mark.parametrize("scoring", ["choices", "choices-normalised"])
def test_choices_get_the_log_probabilities_of_their_own_tokens(
    server: LoopbackServer, scoring: Any
) -> None:
    asked = [query(f"word{i} ->", id=f"q{i}") for i in range(4)]
    answers = ask(server, asked, Sampling(scoring=scoring))
    for one, answer in zip(asked, answers, strict=True):
        prompt = len(pieces(NODE.text + one.text))
        told = [pieces(NODE.text + one.text + end) for end in CHOICES.values()]
        sizes = [len(tokens) - prompt for tokens in told]
        expected = [nats(tokens, prompt) for tokens in told]
        if scoring == "choices-normalised":
            expected = [value / size for value, size in zip(expected, sizes, strict=True)]
        assert answer.logprobs == pytest.approx(dict(zip(CHOICES, expected, strict=True)))
        assert answer.text == max(answer.logprobs, key=answer.logprobs.__getitem__)
        assert answer.usage.prompt_tokens == sum(
            len((NODE.text + one.text + end).split()) for end in CHOICES.values()
        )
    assert sizes == [1, 2, 2]
    assert (
        len(server.requests) == 12 == len(server.bill)
    )  # a request for each choice, and all are paid for


def test_a_choice_that_merges_into_the_query_is_weighed_with_what_it_merged_with(
    server: LoopbackServer,
) -> None:
    merged = {"s": "s", "new": " new"}  # "words" is one word, "word new" are two
    [answer] = ask(server, [query("a word", merged)], WEIGH)
    told = [pieces(NODE.text + text) for text in ("a words", "a word new")]
    begin = len(told[0]) - 1
    assert answer.logprobs == pytest.approx(
        {"s": nats(told[0], begin), "new": nats(told[1], begin)}
    )


class Opening(CompletionsWire):
    """A server that puts a special token before every prompt and shows it, as vLLM does for models
    with a BOS.
    """

    def prompt_tokens(self, body: Json) -> list[list[str]]:
        return [["<s>", *tokens] for tokens in super().prompt_tokens(body)]


def test_a_special_token_before_the_prompt_shifts_nothing(server: LoopbackServer) -> None:
    use(server, Opening)
    [answer] = ask(server, [query()], WEIGH)
    told = [["<s>", *pieces(NODE.text + "c ->" + end)] for end in CHOICES.values()]
    begin = len(pieces(NODE.text + "c ->")) + 1
    assert answer.logprobs == pytest.approx(
        dict(zip(CHOICES, (nats(t, begin) for t in told), strict=True))
    )


class Torch(CompletionsWire):
    """A server of token ids: the bundled model scores each prompt in one plain forward."""

    def __init__(self, server: LoopbackServer) -> None:
        super().__init__(server)
        self.weights = transformers.AutoModelForCausalLM.from_pretrained(
            DEMO_FOLDER, dtype=torch.float32
        )
        self.server.decode = tokenizer().decode

    def answer(self, made: Made, body: Json) -> Json:
        told: Json = super().answer(made, body)
        ids = torch.tensor([body["prompt"]])
        with torch.inference_mode():
            logprobs = self.weights(input_ids=ids).logits[0].log_softmax(-1)
        values = logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        told["choices"][0]["logprobs"]["token_logprobs"][: len(values) + 1] = [None, *values]
        return told


def likelihoods(asked: Sequence[Query], sampling: Sampling) -> dict[str, Answer]:
    """Return what the local back end says with the bundled model."""
    local = open_model("demo")

    async def here() -> dict[str, Answer]:
        answers = [
            answer async for batch in local.answers(NODE, asked, sampling) for answer in batch
        ]
        await local.close()
        return {answer.query_id: answer for answer in answers}

    return asyncio.run(here())


@pytest.mark.parametrize("scoring", ["choices", "choices-normalised"])
def test_token_ids_give_the_likelihoods_of_the_local_back_end(
    server: LoopbackServer, scoring: Any
) -> None:
    use(server, Torch)
    asked = [
        query("c ->", id="q0"),
        query("ab", {"c": "c", "long": "cde fg", "end": "\n"}, id="q1"),
    ]
    sampling = Sampling(scoring=scoring)
    expected = likelihoods(asked, sampling)
    for answer in ask(server, asked, sampling, tokenizer=str(DEMO_FOLDER)):
        assert answer.error is None
        assert answer.logprobs == pytest.approx(expected[answer.query_id].logprobs, abs=1e-3)
        assert answer.text == expected[answer.query_id].text


class Vllm(Torch):
    """The same, and it names the likeliest next tokens by their ids where that is asked for."""

    def answer(self, made: Made, body: Json) -> Json:
        told: Json = super().answer(made, body)
        if body.get("return_tokens_as_token_ids"):
            with torch.inference_mode():
                nats = (
                    self.weights(input_ids=torch.tensor([body["prompt"]]))
                    .logits[0, -1]
                    .log_softmax(-1)
                )
            values, ids = (part.tolist() for part in nats.topk(body["logprobs"]))
            tops = {f"token_id:{i}": value for i, value in zip(ids, values, strict=True)}
            told["choices"][0]["logprobs"]["top_logprobs"] = [tops]
        return told


def next_tokens(text: str) -> list[str]:
    """Return the single tokens that may follow a text, the likeliest first."""
    tokens, weights = (
        tokenizer(),
        transformers.AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype=torch.float32),
    )
    ids = tokens(text)["input_ids"]
    with torch.inference_mode():
        order = (
            weights(input_ids=torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
        )
    return [
        end for i in order if tokens(text + (end := tokens.decode([i])))["input_ids"] == [*ids, i]
    ]


def test_choices_of_one_token_each_are_one_request_where_the_server_tells_them_all(
    server: LoopbackServer,
) -> None:
    use(server, Vllm)
    ends = next_tokens(NODE.text + "c ->")
    near = {f"choice {i}": end for i, end in enumerate(ends[:4])}
    far = {"first": ends[0], "last": ends[-1]}  # which is not among the likeliest 20
    asked = [
        query(choices=near, id="q0"),
        query(choices=far, id="q1"),
        query(choices=CHOICES, id="q2"),
    ]
    n_requests = []
    expected = likelihoods(asked, WEIGH)
    for one in asked:
        server.requests.clear()
        [answer] = ask(server, [one], WEIGH, tokenizer=str(DEMO_FOLDER))
        assert answer.logprobs == pytest.approx(expected[one.id].logprobs, abs=1e-3)
        n_requests.append(len(server.requests))
    assert n_requests == [1, 3, 3]  # the others are echoed, a request for each choice


class Plain(CompletionsWire):
    """A server that does not know the field for token ids, and says so."""

    def check(self, request: Request) -> None:
        super().check(request)
        if "return_tokens_as_token_ids" in request.body:
            raise Refused("invalid", "Unknown parameter.")


@pytest.mark.parametrize("wire", [CompletionsWire, Plain])
def test_a_server_that_does_not_name_tokens_by_ids_is_asked_for_them_once(
    server: LoopbackServer, wire: type[CompletionsWire]
) -> None:
    server.decode = tokenizer().decode
    use(server, wire)
    ends = next_tokens(NODE.text + "c ->")[:2]
    asked = [query(choices={"a": ends[0], "b": ends[1]}, id=f"q{i}") for i in range(3)]
    answers = ask(server, asked, WEIGH, tokenizer=str(DEMO_FOLDER), concurrency="1")
    assert [answer.status for answer in answers] == ["ok"] * 3
    assert [bool(request.body.get("echo")) for request in server.requests] == [False] + [True] * 6


class Silent(CompletionsWire):
    """A server that does not show the new token: the end of the text, say."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        shown = told["choices"][0]["logprobs"]
        for name in shown:
            shown[name].pop()
        told["usage"]["prompt_tokens"] = len(shown["tokens"])
        return told


def test_the_new_token_that_servers_insist_on_is_weighed_nowhere(server: LoopbackServer) -> None:
    expected = ask(server, [query()], WEIGH)[0]
    assert expected.usage.completion_tokens == 3
    assert {request.body["max_tokens"] for request in server.requests} == {1}
    use(server, Silent)
    assert ask(server, [query()], WEIGH)[0].logprobs == expected.logprobs


class NoEcho(CompletionsWire):
    """A server that ignores `echo`."""

    def answer(self, made: Made, body: Json) -> Json:
        return super().answer(made, {**body, "echo": False})


class NoLogprobs(CompletionsWire):
    """A server that ignores `logprobs`."""

    def answer(self, made: Made, body: Json) -> Json:
        return super().answer(made, {**body, "logprobs": None})


class Refusing(CompletionsWire):
    """A server that says that it cannot."""

    def check(self, request: Request) -> None:
        raise Refused(
            "invalid",
            "Setting 'echo' and 'logprobs' at the same time is not supported for this model.",
        )


@pytest.mark.parametrize("wire", [NoEcho, NoLogprobs, Refusing])
def test_a_server_without_prompt_log_probabilities_is_refused_in_one_line(
    server: LoopbackServer, wire: type[CompletionsWire]
) -> None:
    use(server, wire)
    with pytest.raises(
        SpecError,
        match=r"log-probabilities of a prompt \(.*--scoring generate, without --gold-nll\.$",
    ):
        ask(server, [query(id=f"q{i}") for i in range(8)], WEIGH)


class Garbled(CompletionsWire):
    """A server that shows its tokens otherwise than the text has them."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        shown = told["choices"][0]["logprobs"]
        shown["tokens"] = [token.replace(" ", "") for token in shown["tokens"]]
        return told


def test_tokens_that_do_not_spell_the_prompt_weigh_nothing(server: LoopbackServer) -> None:
    use(server, Garbled)
    [answer] = ask(server, [query()], WEIGH)
    assert (answer.status, answer.logprobs) == ("failed", None)
    assert answer.error is not None
    assert "name --model-arg tokenizer" in answer.error
    assert answer.usage.prompt_tokens == sum(bill.input for bill in server.bill) > 0


def test_what_cannot_be_weighed_fails_alone(server: LoopbackServer) -> None:
    bad = {"empty": "", "x": " x"}
    answers = ask(server, [query(id="a", choices=bad), query(id="b")], WEIGH)
    assert [answer.status for answer in answers] == ["failed", "ok"]


@pytest.mark.slow
def test_a_choice_that_meets_a_fault_is_asked_again_and_its_answer_is_paid_once(
    server: LoopbackServer,
) -> None:
    server.fail_next("rate", "garbage", None, "reset")
    [answer] = ask(server, [query()], WEIGH, max_retries="3")
    expected = ask(server, [query()], WEIGH)[0]
    assert (answer.logprobs, answer.usage) == (expected.logprobs, expected.usage)
    assert answer.n_lost == 2


def test_it_offers_likelihoods_but_neither_chat_nor_batches(server: LoopbackServer) -> None:
    model = open_model(
        "openai/m", base_url=server.base_url("openai"), model_args={"api": "completions"}
    )
    assert isinstance(model, ApiModel)
    assert model.scorings == ("generate", "choices", "choices-normalised")
    assert model.capabilities.chat is False
    assert model.describe()["api"] == "completions"
    with pytest.raises(SpecError, match="takes no batches"):
        model.batch_api()


def test_a_tokenizer_counts_exactly(server: LoopbackServer) -> None:
    model = open_model(
        "openai/m",
        base_url=server.base_url("openai"),
        model_args={"api": "completions", "tokenizer": str(DEMO_FOLDER)},
    )
    assert model.count_tokens(NODE, "word ->") == len(
        tokenizer()(NODE.text + "word ->")["input_ids"]
    )


def test_a_tokenizer_that_is_not_there_is_one_line(server: LoopbackServer) -> None:
    args = {"api": "completions", "tokenizer": "./no/such/folder"}
    with pytest.raises(ModelError, match=r"no tokenizer \./no/such/folder: .*hub id\.$"):
        open_model("openai/m", base_url=server.base_url("openai"), model_args=args)


def test_an_unknown_api_is_one_line() -> None:
    with pytest.raises(ModelError, match="api=chat"):
        open_model("openai/m", model_args={"api": "assistants"})
