"""Labels of which one begins another are weighed up to what ends them, in every back end.

The models are trained to be right: one that writes "10" gives "1" at least the likelihood of "10".
"""

import asyncio
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_harness.examples import Example
from icl_harness.models import open_model
from icl_harness.models.base import Model, Sampling
from icl_harness.models.hf import HfModel
from icl_harness.models.local import kv
from icl_harness.models.local.copied import CopiedPrefix
from icl_harness.models.local.tokens import TokenTree
from icl_harness.models.local.whole import WholePrefix
from icl_harness.prompts.modes import PromptPath, one_begins_another
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Node, Query, Shot
from tests.fake_vllm import open_fake_vllm
from tests.models.local.chats import CHATML, MARKS
from tests.servers import LoopbackServer
from tests.servers.openai_wire import CompletionsWire
from tests.servers.wire import Json, Made
from tests.tiny_models import build_tokenizer
from tests.trained_models import save_trained_model

pytestmark = pytest.mark.usefixtures("one_thread")
RATINGS = {"awful": "1", "fair": "5", "great": "10", "vile": "-1", "odd": "100"}
TEMPLATE = """\
{% block preamble %}{% endblock %}
{% block shot %}Film: {{ input }}
{% if target is not none %}Stars: {{ target }}
{% endif %}
{% endblock %}
{% block format %}{% endblock %}
{% block query %}Film: {{ input }}
Stars:{% endblock %}
"""
SCORINGS = ["choices", "choices-normalised"]


def path_of(labels: list[str], *, format: str = "text", template: str = TEMPLATE) -> PromptPath:
    shots = [Shot(id="s", input="fair", target="5"), Shot(id="t", input="great", target="10")]
    return PromptPath(
        Template(template, "films.jinja"), "supervised", shots, {"labels": labels}, format=format
    )


def queries_of(path: PromptPath, labels: list[str]) -> list[Query]:
    found = []
    for word, label in RATINGS.items():
        target = label if label in labels else labels[0]
        example = Example(id=word, input=word, target=target, choices=tuple(labels))
        found.append(path.query(example, weighed=True))
    return found


def shots_text(rng: random.Random) -> str:
    words = [rng.choice(list(RATINGS)) for _ in range(4)]
    return "".join(f"Film: {word}\nStars: {RATINGS[word]}\n\n" for word in words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return save_trained_model(tmp_path_factory.mktemp("rates"), shots_text)


def chosen(model: Model, queries: list[Query], node: Node, scoring: str) -> dict[str, str]:
    async def collect() -> dict[str, str]:
        found = {}
        async for answers in model.answers(node, queries, Sampling(scoring=scoring)):
            found |= {answer.query_id: answer.text or str(answer.error) for answer in answers}
        if model.is_api:
            await model.close()
        return found

    return asyncio.run(collect())


LABELS = list(RATINGS.values())


@pytest.mark.slow
@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("way", ["shared", "copied", "recomputed", "whole"])
def test_a_model_that_rates_rightly_is_right_in_every_way_of_branching(trained, way, scoring):
    model = HfModel(str(trained))
    if way != "shared":
        model._model.set_attn_implementation("eager")
        runner = kv.Runner(model._model)
        runner.rigid = runner.level = way == "recomputed"
        model._prefix = WholePrefix(runner) if way == "whole" else CopiedPrefix(runner)
    assert model._prefix.way == way
    path = path_of(LABELS)
    for k in (0, 2):
        assert chosen(model, queries_of(path, LABELS), path.node(k), scoring) == RATINGS


@pytest.mark.slow
@pytest.mark.parametrize("scoring", SCORINGS)
def test_vllm_is_right_too(trained, monkeypatch, scoring):
    model, _ = open_fake_vllm(trained, monkeypatch)
    path = path_of(LABELS)
    assert chosen(model, queries_of(path, LABELS), path.node(2), scoring) == RATINGS


@pytest.mark.slow
@pytest.mark.parametrize("template", [False, True])
def test_in_a_chat_the_end_of_the_turn_is_weighed(tmp_path, template):
    """With shots as turns, and with the whole prompt as one turn of the user's."""
    tokenizer = build_tokenizer("llama3")
    tokenizer.add_tokens(MARKS, special_tokens=True)
    tokenizer.chat_template = CHATML
    path = path_of(LABELS, format="text" if template else "chat")

    def chat(rng: random.Random) -> str:
        turns = [{"role": "system", "content": "Rate."}] if rng.random() < 0.5 else []
        for _ in range(3):
            word = rng.choice(list(RATINGS))
            shots = shots_text(rng) if template and rng.random() < 0.5 else ""
            turns.append({"role": "user", "content": f"{shots}Film: {word}\nStars:"})
            turns.append({"role": "assistant", "content": RATINGS[word]})
        return tokenizer.apply_chat_template(turns, tokenize=False)

    folder = save_trained_model(tmp_path, chat, tokenizer=tokenizer, steps=200)
    model = HfModel(str(folder), **({"chat_template": "true"} if template else {}))
    for scoring in SCORINGS:
        found = chosen(model, queries_of(path, LABELS), path.node(2), scoring)
        assert found == RATINGS, scoring


class Rater(CompletionsWire):
    """A server that gives the trained model's log-probabilities of the ids it is sent, or of those
    that a text has.
    """

    def __init__(self, server: LoopbackServer, folder: Path) -> None:
        super().__init__(server)
        self.weights = AutoModelForCausalLM.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.server.decode = self.tokenizer.decode

    def prompt_tokens(self, body: Json) -> list[list[str]]:
        return [[self.tokenizer.decode([i]) for i in self.ids(body)]]

    def ids(self, body: Json) -> list[int]:
        given = body["prompt"]
        return self.tokenizer(given)["input_ids"] if isinstance(given, str) else given

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        ids = torch.tensor([self.ids(body)])
        with torch.inference_mode():
            logprobs = self.weights(input_ids=ids).logits[0].log_softmax(-1)
        values = logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        told["choices"][0]["logprobs"]["token_logprobs"][: len(values) + 1] = [None, *values]
        told["usage"]["prompt_tokens"] = len(ids[0])
        return told


@pytest.mark.slow
@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("by_ids", [False, True])
@pytest.mark.usefixtures("planted_keys")
def test_a_server_that_echoes_is_asked_for_the_ends_too(trained, scoring, by_ids):
    with LoopbackServer(lambda prompt: " x") as server:
        rater = Rater(server, trained)
        server.wires[:] = [rater if type(w) is CompletionsWire else w for w in server.wires]
        args = {"api": "completions", "max_retries": "0"}
        if by_ids:
            args["tokenizer"] = str(trained)
        base_url = server.base_url("openai")
        model = open_model("openai/rater", base_url=base_url, model_args=args)
        path = path_of(LABELS)
        assert chosen(model, queries_of(path, LABELS), path.node(2), scoring) == RATINGS


@pytest.mark.slow
def test_without_such_a_pair_weights_are_the_labels_alone_to_the_last_bit(trained):
    labels = ["1", "5", "-1"]
    path = path_of(labels)
    [with_rule] = queries_of(path, labels)[:1]
    assert with_rule.ending == ""
    bare = Query(
        id="awful", text="Film: awful\nStars:", choices=tuple(labels),
        continuations=tuple(f" {label}" for label in labels),
    )  # fmt: skip
    model = HfModel(str(trained))

    async def weights(query: Query) -> dict[str, float]:
        async for answers in model.answers(path.node(2), [query], Sampling(scoring="choices")):
            return dict(answers[0].logprobs or {})
        return {}

    assert asyncio.run(weights(with_rule)) == asyncio.run(weights(bare))


@pytest.mark.parametrize(
    ("labels", "begins"),
    [
        (["1", "5", "10"], True),
        (["email_query", "calendar", "email_querycontact"], True),
        (["no", "not sure", "yes"], True),
        (["-1", "0", "1"], False),
        (["positive", "negative"], False),
        (["(A)", "(B)", "(C)"], False),
        (["a", "b", "ba"], True),
        (["B", "b", "bc"], True),
        (["x"], False),
    ],
)
def test_pairs_are_found_among_the_labels(labels, begins):
    assert one_begins_another(labels) is begins
    [query, *_] = queries_of(path_of(labels), labels)
    assert query.ending == ("\n\nFilm:" if begins else "")


@given(st.lists(st.text("ab", min_size=1, max_size=4), unique=True, max_size=8))
def test_a_pair_is_found_wherever_it_stands(texts):
    pairs = [(a, b) for a in texts for b in texts if a != b and b.startswith(a)]
    assert one_begins_another(texts) is bool(pairs)


@pytest.mark.parametrize(
    ("shot", "query", "ending"),
    [
        ("{{ input }} -> {{ target }}\n", "{{ input }} ->", "\nawful"),
        ("Q: {{ input }} A: {{ target }} | ", "Q: {{ input }} A:", ""),  # | ends it
        ("other {{ input }} {{ target }}", "{{ input }} ->", "\nawful"),
    ],
)
def test_what_ends_a_label_is_what_ends_it_in_the_shots(shot, query, ending):
    template = "".join(
        f"{{% block {name} %}}{text}{{% endblock %}}"
        for name, text in {"preamble": "", "shot": shot, "format": "", "query": query}.items()
    )
    [found, *_] = queries_of(path_of(["1", "10"], template=template), ["1", "10"])
    assert found.ending == ending


@pytest.mark.parametrize("kind", ["byte_bpe", "llama3", "sp_bpe", "unigram", "wordpiece"])
@pytest.mark.parametrize("fast", [True, False])
def test_ids_go_on_to_the_first_that_reaches_beyond_the_label(kind, fast):
    tokenizer = build_tokenizer(kind)
    tree, node = TokenTree(tokenizer), Node("Film: fair\nStars: 5\n\n").child("Film: x\nStars:")
    if not fast:
        tree._fast = None
    labels = [" 1", " 10", " C++", " naïve", " 你好"]
    endings = ["\n\nFilm:"] * len(labels)
    found = tree.branches(node, labels, endings=endings)
    bare = tree.branches(node, labels)
    for label, branch, alone in zip(labels, found, bare, strict=True):
        ids = [*tree.ids(node)[: branch.n_shared].tolist(), *branch.own]
        whole = tree.branches(node, [label + "\n\nFilm:"])[0]
        all_ids = [*tree.ids(node)[: whole.n_shared].tolist(), *whole.own]
        assert ids == all_ids[: len(ids)], "as in the shots"
        assert len(alone) <= len(ids) <= len(alone) + 1, label
        text = tokenizer.decode(ids[len(alone) - 1 :])
        assert len(text) > 0


def test_own_shots_before_the_query_change_nothing_of_the_ends():
    tree = TokenTree(build_tokenizer("byte_bpe"))
    node = Node("Rate.\n")
    own, labels = "Film: y\nStars: 10\n\n", [" 1", " 10"]
    flat = tree.branches(node.child(own), labels, endings=["\n\nFilm:"] * 2)
    below = tree.branches(node, labels, own=own, endings=["\n\nFilm:"] * 2)
    for one, other in zip(flat, below, strict=True):
        assert len(one) == len(other)
        assert one.own == other.own[-len(one.own) :]
