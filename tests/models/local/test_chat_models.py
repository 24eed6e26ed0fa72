"""Chats of local models: answers, weights, counts and shown prompts against plain transformers on
the whole chat.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import icl_harness
from icl_harness.cli.execute import plan_run
from icl_harness.errors import SpecError
from icl_harness.models.base import KvCache, Sampling
from icl_harness.models.hf import HfModel
from icl_harness.models.local import kv_disk
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Edge, Node, Query, Shot
from icl_harness.report.run import find_record
from icl_harness.runner.groups import make_requests
from icl_harness.runner.overflow import Fitting
from icl_harness.runner.schedule import Bundle
from icl_harness.runner.spec import Spec
from tests.models.local.chats import (
    CUTTING,
    FIRST_TURN,
    HEADERS,
    LAST_TURN,
    TEMPLATES,
    grown,
    ids_of,
    messages_of,
    save_chatty,
)
from tests.models.local.test_hf_options import nats
from tests.models.test_hf import ask, queries_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return cache(lambda template: save_chatty(tmp_path_factory.mktemp("chatty"), template))


SHOTS = [
    ("Review: dull \nSentiment:", "bad"),
    ("Review: warm\n", None),
    ("Review: funny\nSentiment:", "good"),
] * 2


@pytest.mark.slow
@pytest.mark.parametrize("template", ["chatml", "headers", "first turn"])
def test_answers_are_those_of_plain_transformers_on_the_whole_chat(folder, template):
    path = folder(TEMPLATES[template])
    tokenizer, plain = (
        AutoTokenizer.from_pretrained(path),
        AutoModelForCausalLM.from_pretrained(path).eval(),
    )
    model = HfModel(path)
    assert model.capabilities.chat
    for node in grown("Label the reviews.\n\n", SHOTS)[::2]:
        queries = queries_of(3, choices=("p", "n"), continuations=("positive", "n"))
        written = ask(model, node, queries, Sampling(max_tokens=6))
        weighed = ask(model, node, queries, Sampling(scoring="choices"))
        for query in queries:
            ids, answer = ids_of(tokenizer, messages_of(node, query.text)), written[query.id, 0]
            assert answer.usage.prompt_tokens == len(ids) == model.count_tokens(node, query.text)
            out = plain.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=6,
                do_sample=False, eos_token_id=model._ends, pad_token_id=0,
            )[0, len(ids) :]  # fmt: skip
            assert answer.text == tokenizer.decode(out, skip_special_tokens=True)
            whole = ids + tokenizer("positive", add_special_tokens=False)["input_ids"]
            assert weighed[query.id, 0].logprobs["p"] == pytest.approx(
                nats(plain, whole, len(whole) - len(ids)), abs=1e-4
            )
    assert model.n_prefilled <= model.count_tokens(
        node
    )  # each token of the path once, though it was asked in 4 places


@pytest.mark.parametrize("template", ["spaced", "channels"])
def test_choices_are_weighed_where_the_answers_of_the_shots_stand(folder, template):
    path = folder(TEMPLATES[template])
    tokenizer, plain = (
        AutoTokenizer.from_pretrained(path),
        AutoModelForCausalLM.from_pretrained(path).eval(),
    )
    node, [query] = (
        grown("Label.", SHOTS)[-1],
        queries_of(1, choices=("p", "n"), continuations=("positive", "bad")),
    )
    told = ask(HfModel(path), node, [query], Sampling(scoring="choices"))["q0", 0].logprobs
    said = messages_of(node, query.text)

    def up_to(answer: str) -> list[int]:
        later = [
            {"role": "assistant", "content": f"{answer}@"},
            {"role": "user", "content": "more"},
        ]
        text = tokenizer.apply_chat_template(said + later, tokenize=False)
        return tokenizer(text[: text.rindex("@")], add_special_tokens=False)["input_ids"]

    good, bad = up_to("positive"), up_to("bad")
    start = next(i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b)
    expected = nats(plain, good, len(good) - start) - nats(plain, bad, len(bad) - start)
    assert told["p"] - told["n"] == pytest.approx(expected, abs=2e-4)


def test_keys_and_values_of_a_chat_are_found_again_on_disk(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(kv_disk, "BLOCK", 16)
    path, cache = folder(HEADERS), KvCache(folder=str(tmp_path))
    node = grown("Label.", SHOTS)[-1]
    told = []
    for _ in range(2):
        model = HfModel(path, kv_cache=cache)
        answers = ask(model, node, queries_of(3), Sampling(max_tokens=4))
        told.append((model.n_prefilled, [answer.text for answer in answers.values()]))
    assert told[1][1] == told[0][1]
    assert told[1][0] < 16 < told[0][0]


SELECTED = (
    "{% block preamble %}Label.{% endblock %}{% block query %}{{ input }}{% endblock %}"
    "{% block shot %}{{ input }}{% endblock %}{% block format %}{% endblock %}"
)


@pytest.mark.slow
def test_shots_that_fit_are_whole_turns_and_as_many_as_the_window_holds(folder):
    source = (
        "{% block preamble %}Label.{% endblock %}{% block query %}Review: {{ input }}{% endblock %}"
        "{% block shot %}Review: {{ input }} => {{ target }}{% endblock %}"
        "{% block format %}{% endblock %}"
    )
    shots = [Shot(id=str(i), input="dull " * (1 + i % 3), target="bad") for i in range(12)]
    prompts = PromptPath(Template(source, "films"), "supervised", shots, {}, format="chat")
    queries = [Query(id=str(i), text=f"Review: {'slow ' * i}") for i in range(3)]
    sampling = Sampling(max_tokens=3)
    requests = make_requests(queries, 1)
    bundle = Bundle(path=prompts, shots=12, requests=lambda k: requests, sampling=sampling)
    model = HfModel(folder(FIRST_TURN))
    for window in range(150, 260, 3):
        model.capabilities = replace(model.capabilities, context_window=window)
        k = Fitting(model, "drop").shots(bundle, "films")
        need = [
            max(model.count_tokens(prompts.node(n), q.text) for q in queries) + 3 for n in range(13)
        ]
        assert k == max((n for n in range(13) if need[n] <= window), default=None)
        if k is not None:
            assert {a.status for a in ask(model, prompts.node(k), queries, sampling).values()} == {
                "ok"
            }


class Selected(Bundle):
    """Requests with shots of their own: the shared node is the preamble at every shot count."""

    def node(self, k: int) -> Node:
        return self.path.node(0)


@pytest.mark.slow
def test_turns_of_a_querys_own_count_with_what_the_template_puts_around_them(folder):
    def own(k: int) -> tuple[Edge, ...]:
        edges = []
        for i in range(k):
            edges += [
                Edge(text=f"Review: dull {i}", role="user"),
                Edge(text="bad", role="assistant"),
            ]
        return tuple(edges)

    def requests(k: int):
        texts = ("Review: slow", "Review: slow slow slow")
        queries = [Query(id=text, text=text, own=own(k)) for text in texts]
        return make_requests(queries, 1)

    root = PromptPath(Template(SELECTED, "films"), "supervised", [], {}, format="chat")
    sampling = Sampling(max_tokens=3)
    bundle = Selected(path=root, shots=0, requests=requests, sampling=sampling)
    model = HfModel(folder(FIRST_TURN))
    fitting, seen = Fitting(model, "drop"), set()
    for window in range(20, 420, 5):
        model.capabilities = replace(model.capabilities, context_window=window)
        for k in range(5):
            queries = [request.query for request in requests(k)]
            answers = ask(model, root.node(0), queries, sampling).values()
            fits = {answer.status for answer in answers} == {"ok"}
            assert fitting._fits(bundle, k) == fits
            seen.add((k, fits))
    assert seen == {(k, fits) for k in range(5) for fits in (True, False)}


GRID = {
    "modes": ("supervised", "unsupervised"),
    "shots": (0, 2, 7),
    "draws": 1,
    "data": "data",
    "format": "chat",
}


def test_a_grid_is_planned_asked_and_shown_in_turns(toy):
    save_chatty(toy / "model", HEADERS)
    plan = plan_run(Spec(tasks=("toy",), models=("hf/model",), **GRID), Path("out"))
    planned = {(row.mode, row.shots): row.prompt_tokens for row in plan.rows}
    run = icl_harness.run("toy", "hf/model", out="out", **GRID)
    records = run.records()
    assert set(records["format"]) == {"chat"}
    assert set(records["status"]) == {"ok"}
    asked = (
        records[~records["reused"].astype(bool)].groupby(["mode", "shots"])["prompt_tokens"].sum()
    )
    assert planned == asked.to_dict()
    assert "chat_template.jinja" in run.header["models"]["hf/model"]["sha256"]
    record, _ = find_record(Path("out"), "test103", {"mode": "supervised", "shots": 2, "draw": 0})
    text = record.text
    assert text.count("\n\n[user]\n") == 3
    assert text.count("\n\n[assistant]\n") == 2
    tokenizer = AutoTokenizer.from_pretrained("model")
    said = [turn.split("]\n", 1) for turn in text.removeprefix("[").split("\n\n[")]
    ids = ids_of(tokenizer, [{"role": role, "content": words} for role, words in said])
    one = (
        (records["mode"] == "supervised")
        & (records["shots"] == 2)
        & (records["query_id"] == "test103")
    )
    assert records[one]["prompt_tokens"].tolist() == [len(ids)]


def test_words_that_the_template_cuts_are_refused_before_they_are_read(folder):
    model, [query] = HfModel(folder(CUTTING)), queries_of(1)
    for answer in ("good", "<think>good?</think> good"):
        node = grown("Label.", [("a film", answer)])[-1]
        if "think" not in answer:
            assert ask(model, node, [query], Sampling(max_tokens=1))["q0", 0].status == "ok"
    with pytest.raises(SpecError, match="changes the words of the prompt"):
        ask(model, node, [query], Sampling(max_tokens=1))


def test_a_model_whose_template_takes_no_turns_is_refused_in_one_line(toy):
    save_chatty(toy / "model", LAST_TURN)
    with pytest.raises(
        SpecError, match=r"^hf/model has a chat template that .*\)\. Use --format text; .*\.$"
    ):
        icl_harness.run("toy", "hf/model", out="out", **GRID)
    assert not Path("out").exists()
