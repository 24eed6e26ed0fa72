"""What every local provider promises through `Model.answers`, against plain transformers forwards
on whole prompts.

`hf/` runs everywhere; `vllm/` where vLLM is installed and a CUDA GPU is present.
"""

import asyncio
import importlib.util
import math
from dataclasses import dataclass

import pytest
import torch

from icl_harness.models import open_model
from icl_harness.models.base import Answer, Model, Sampling, truncate_at_stop
from icl_harness.models.local.tokens import common
from icl_harness.prompts.tree import Node, Query
from tests.tiny_models import save_tiny_model

WINDOW = 512
FILMS = [
    "a warm film",
    "dull",
    "slow, and far too long",
    "funny",
    "a brown fox",
    "the lazy dog",
    "12 + 345",
    "quick",
]
CHOICES = {
    "and": " and",
    "pos": " pos",
    "yes": " positive",
    "more": " positively",
    "no": " negative",
    "long": " too long",
}
LENGTHS = {"and": 1, "pos": 1, "yes": 2, "more": 4, "no": 3, "long": 3}  # in tokens


@dataclass(frozen=True, kw_only=True)
class Provider:
    """`tolerance`: of a choice's log-likelihood, in nats; a GPU multiplies float32 with fewer bits
    than a CPU does.
    """

    args: dict[str, str]
    tolerance: float


PROVIDERS = {
    "hf": Provider(args={"device": "cpu"}, tolerance=2e-4),
    "vllm": Provider(
        args={"dtype": "float32", "gpu_memory_utilization": "0.2", "enforce_eager": "true"},
        tolerance=5e-2,
    ),
}
# vLLM and what it imports warn of their own affairs.
PARAMS = ["hf", pytest.param("vllm", marks=pytest.mark.filterwarnings("default"))]


class Reference:
    """The same weights in plain transformers, without any cache."""

    def __init__(self, folder: str) -> None:
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Return the log-probabilities of every next token: (n, vocabulary)."""
        with torch.inference_mode():
            return (
                self._model(input_ids=torch.tensor([ids]), use_cache=False)
                .logits[0]
                .float()
                .log_softmax(-1)
            )

    def greedy(self, prompt: str, n: int) -> tuple[str, int, float]:
        """Return the text that follows, its number of tokens, and by how many nats the closest call
        was won.
        """
        ids = self.ids(prompt)
        new: list[int] = []
        margin = math.inf
        while len(new) < n and self.tokenizer.eos_token_id not in new:
            (first, second), (token, _) = (
                part.tolist() for part in self.logprobs(ids + new)[-1].topk(2)
            )
            margin = min(margin, first - second)
            new.append(token)
        whole = self.tokenizer.decode(ids + new, skip_special_tokens=True)
        return whole[len(self.tokenizer.decode(ids, skip_special_tokens=True)) :], len(new), margin

    def nats(self, prompt: str, ends: list[str]) -> list[list[float]]:
        """Return the log-probabilities of each continuation's tokens, from the same token on."""
        before, *ids = (self.ids(prompt + end) for end in ["", *ends])
        start = min(common(before, one) for one in ids)
        return [
            self.logprobs(one)[range(start - 1, len(one) - 1), one[start:]].tolist() for one in ids
        ]


@dataclass(frozen=True)
class Case:
    model: Model
    reference: Reference
    tolerance: float

    def ask(
        self, node: Node, queries: list[Query], sampling: Sampling
    ) -> dict[tuple[str, int], Answer]:
        async def collect():
            return [
                answer
                async for batch in self.model.answers(node, queries, sampling)
                for answer in batch
            ]

        answers = asyncio.run(collect())
        found = {(answer.query_id, answer.sample): answer for answer in answers}
        assert len(answers) == len(found)
        assert found.keys() == {(query.id, query.sample) for query in queries}
        return found


@pytest.fixture(scope="module", params=PARAMS)
def case(request, tmp_path_factory):
    if request.param == "vllm":
        if importlib.util.find_spec("vllm") is None:
            pytest.skip("vLLM is not installed; it needs an environment of its own (extra vllm)")
        import vllm  # noqa: F401  # before torch is asked for GPUs: vLLM may still fork then

        if not torch.cuda.is_available():
            pytest.skip("vLLM needs a CUDA GPU, and there is none")
    folder = str(
        save_tiny_model(tmp_path_factory.mktemp(request.param), "wide_llama", context=WINDOW)
    )
    provider = PROVIDERS[request.param]
    model = open_model(f"{request.param}/{folder}", model_args=provider.args)
    yield Case(model, Reference(folder), provider.tolerance)
    asyncio.run(model.close())
    asyncio.run(model.close())  # closing twice is closing


def grown(n: int, node: Node | None = None) -> Node:
    """Return the node of `n` shots, or grow one to them."""
    node = node or Node("Label the reviews.\n\n")
    at = node.text.count("Review:")
    for i in range(at, n):
        node = node.child(
            f"Review: {FILMS[i % 8]} {i}\nSentiment: {('positive', 'negative')[i % 2]}\n\n"
        )
    return node


def queries_of(n: int, **more) -> list[Query]:
    return [
        Query(id=f"q{i}", text=f"Review: {' and '.join(FILMS[i % 8 :][:3])}\nSentiment:", **more)
        for i in range(n)
    ]


def with_choices(n: int, names: tuple[str, ...] = tuple(CHOICES)) -> list[Query]:
    return queries_of(n, choices=names, continuations=tuple(CHOICES[name] for name in names))


def test_greedy_text_equals_plain_forwards(case):
    node, queries, n_clear = grown(3), queries_of(8), 0
    answers = case.ask(node, queries, Sampling(max_tokens=8))
    for query in queries:
        text, n, margin = case.reference.greedy(node.text + query.text, 8)
        if margin > case.tolerance:  # else a rounding may turn it
            n_clear += 1
            assert (answers[query.id, 0].text, answers[query.id, 0].usage.completion_tokens) == (
                text,
                n,
            )
    assert n_clear >= 4


@pytest.mark.parametrize("scoring", ["choices", "choices-normalised"])
@pytest.mark.parametrize(
    "names", [("and", "pos"), ("no", "long"), ("pos", "more", "yes", "and"), tuple(CHOICES)]
)
def test_log_likelihoods_of_choices_equal_plain_ones(case, names, scoring):
    node, queries = grown(3), with_choices(6, names)
    answers = case.ask(node, queries, Sampling(scoring=scoring))
    for query in queries:
        nats = dict(
            zip(
                names,
                case.reference.nats(node.text + query.text, list(query.continuations)),
                strict=True,
            )
        )
        assert {name: len(told) for name, told in nats.items()} == {
            name: LENGTHS[name] for name in names
        }
        expected = {
            name: sum(told) / (len(told) if "norm" in scoring else 1) for name, told in nats.items()
        }
        answer = answers[query.id, 0]
        assert answer.logprobs == pytest.approx(expected, abs=case.tolerance)
        assert answer.text == max(answer.logprobs, key=answer.logprobs.__getitem__)
        assert answer.usage.completion_tokens == 0


def test_choices_that_merge_into_the_query_are_weighed_from_one_place(case):
    node = grown(2)
    query = Query(id="q", text="Sentiment: posi", choices=("a", "b"), continuations=("tive", "\n"))
    told = case.ask(node, [query], Sampling(scoring="choices"))["q", 0].logprobs
    nats = case.reference.nats(node.text + query.text, list(query.continuations))
    assert sum(map(len, nats)) > 2
    assert list(told.values()) == pytest.approx([sum(one) for one in nats], abs=case.tolerance)


def test_text_ends_before_the_first_stop_string(case):
    node, queries = grown(3), queries_of(6)
    free = case.ask(node, queries, Sampling(max_tokens=24))
    texts = [answer.text for answer in free.values()]
    stops = sorted(
        {
            text[k : k + n]
            for text in texts
            for k, n in ((3, 1), (7, 4))
            if text[k : k + n].isascii()
        }
    )
    for stop in [(one, "never") for one in stops if one][:6]:
        answers = case.ask(node, queries, Sampling(max_tokens=24, stop=stop))
        for key, answer in answers.items():
            assert answer.text == truncate_at_stop(free[key].text, stop)
            assert answer.usage.completion_tokens <= free[key].usage.completion_tokens


def test_a_stop_string_ends_generation_early(case):
    node, queries = grown(3), queries_of(8)
    free = case.ask(node, queries, Sampling(max_tokens=40))
    query = next(
        q for q in queries if (text := free[q.id, 0].text)[:3].isascii() and len(text) > 20
    )
    answer = case.ask(node, [query], Sampling(max_tokens=40, stop=(free[query.id, 0].text[1:3],)))[
        query.id, 0
    ]
    assert answer.usage.completion_tokens < 8


def test_a_sample_depends_on_its_seed_and_not_on_its_batch(case):
    node, texts = grown(3), [query.text for query in queries_of(3)]
    queries = [
        Query(id=f"q{i}", text=t, sample=s, seed=2**62 + 9 * i + s)
        for i, t in enumerate(texts)
        for s in range(4)
    ]
    sampling = Sampling(max_tokens=8, temperature=1.0)
    together = {key: answer.text for key, answer in case.ask(node, queries, sampling).items()}
    alone = {
        key: answer.text
        for query in queries
        for key, answer in case.ask(node, [query], sampling).items()
    }
    assert together == alone
    assert len(set(together.values())) > 8


def test_at_temperature_zero_samples_of_a_text_are_one_answer(case):
    queries = [Query(id="q", text="Review: dull", sample=s, seed=s) for s in range(3)]
    assert (
        len(
            {answer.text for answer in case.ask(grown(1), queries, Sampling(max_tokens=4)).values()}
        )
        == 1
    )


def test_usage_counts_the_prompt_exactly_and_the_prefix_as_cached(case):
    node = None
    for shots in (3, 6, 9):
        node = grown(shots, node)
        for queries, sampling in (
            (queries_of(5), Sampling(max_tokens=3)),
            (with_choices(5), Sampling(scoring="choices")),
        ):
            for query in queries:
                [answer] = case.ask(node, [query], sampling).values()
                n = len(case.reference.ids(node.text + query.text))
                assert answer.usage.prompt_tokens == case.model.count_tokens(node, query.text) == n
                assert 0 <= answer.usage.cached_tokens <= n
                if shots > 3:
                    assert answer.usage.cached_tokens > 0
                assert answer.latency_s > 0


def test_prompts_beyond_the_window_are_overflows_and_the_others_go_on(case):
    node = grown(2)
    assert case.model.capabilities.context_window == WINDOW
    edge = next(
        text for n in range(WINDOW) if case.model.count_tokens(node, text := " a" * n) >= WINDOW - 4
    )
    most = WINDOW - case.model.count_tokens(node, edge)
    for sampling in (Sampling(max_tokens=most), Sampling(scoring="choices")):
        asked = [
            Query(id=id, text=t, choices=("a",), continuations=(" a",))
            for id, t in {"long": " a" * 600, "edge": edge}.items()
        ]
        answers = case.ask(node, asked, sampling)
        assert answers["edge", 0].status == "ok"
        assert answers["long", 0].status == "overflow"
        assert f"window is {WINDOW}" in answers["long", 0].error
    assert case.ask(node, asked[1:], Sampling(max_tokens=most + 1))["edge", 0].status == "overflow"


def test_what_cannot_be_asked_fails_alone(case):
    queries = [
        Query(id="good", text="b", choices=("x", "y"), continuations=(" x", " y")),
        Query(id="bad", text="b", choices=("x", "y"), continuations=("", " y")),
    ]
    answers = case.ask(grown(1), queries, Sampling(scoring="choices"))
    assert [answers["good", 0].status, answers["bad", 0].status] == ["ok", "failed"]
    assert (
        case.ask(Node(""), [Query(id="q", text="")], Sampling(max_tokens=2))["q", 0].status
        == "failed"
    )


def test_a_model_says_what_it_is(case):
    told = case.model.describe()
    assert told["dtype"] == "float32"
    assert len(told["sha256"]["model.safetensors"]) == 64
