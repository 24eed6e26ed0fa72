"""Choices taken per byte, by PMI and calibrated: what is sent, what is taken, what is stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import icl_harness
from icl_harness import Answer, Model, Node, Query, Sampling, ScriptedModel, Usage
from icl_harness.errors import SpecError, TemplateError
from icl_harness.report.run import find_record
from icl_harness.runner.choice_scores import n_bytes, scores
from tests.conftest import parity
from tests.runner.test_gold_likelihoods import plain_nll
from tests.servers import LoopbackServer
from tests.servers.openai_wire import hashed_logprob, pieces
from tests.tiny_models import save_tiny_model

LABELS = ("even", "odd")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "sk-planted")


def hashed_nats(prompt: str, written: str) -> float:
    """A log-likelihood between -8 and 0 that depends on all of a text."""
    digest = hashlib.sha256(f"{prompt}|{written}".encode()).digest()
    return -8 * int.from_bytes(digest[:4], "big") / 2**32


class Weighing(Model):
    """A back end whose log-likelihoods are hashes; it keeps what it was sent."""

    gold_likelihood = "weighed"

    def __init__(self, fate: str = "ok") -> None:
        self.id = "weighing"
        self.fate = fate
        self.sent: list[tuple[str, str]] = []  # node and query

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        assert sampling.scoring == "choices"
        for query in queries:
            self.sent.append((node.text, query.tail))
            if self.fate == "bare fails" and query.text == "N/A ->":
                yield [Answer(query_id=query.id, status="failed", error="no memory")]
                continue
            pairs = zip(query.choices, query.continuations, strict=True)
            nats = {c: hashed_nats(node.text + query.tail, written) for c, written in pairs}
            if self.fate == "untold":
                nats.popitem()
            usage = Usage(prompt_tokens=10, cached_tokens=0, completion_tokens=0, cost_usd=0.25)
            best = max(nats, key=nats.__getitem__)
            yield [Answer(query_id=query.id, text=best, logprobs=nats, usage=usage)]


def run(model: Model | str, scoring: str, **spec: Any) -> Any:
    fields = {"shots": [0, 2], "draws": 2, "data": "data", "out": f"out-{scoring}", **spec}
    return icl_harness.run("toy", model, scoring=scoring, **fields)


def prompt_of(done: Any, row: Any) -> str:
    cell = {"shots": row["shots"], "draw": row["draw"], "mode": row["mode"]}
    return str(find_record(done.path, row["query_id"], cell)[0].text)


@pytest.mark.usefixtures("toy")
def test_the_best_choice_per_byte_is_taken_and_the_plain_likelihood_stored() -> None:
    model = Weighing()
    done = run(model, "choices-per-byte")
    changed = 0
    for row in done.records().to_dict("records"):
        nats = {label: hashed_nats(prompt_of(done, row), f" {label}") for label in LABELS}
        per_byte = {label: nats[label] / len(label) for label in LABELS}
        assert row["answer"] == max(per_byte, key=per_byte.__getitem__)
        assert row["gold_nll"] == -nats[row["target"]]
        changed += row["answer"] != max(nats, key=nats.__getitem__)
    assert changed > 2
    assert len(model.sent) == 36  # zero-shot prompts are sent once, and nothing else
    assert done.records()["cost_usd"].sum() == 36 * 0.25
    sums = run(Weighing(), "choices").records()
    assert sums["gold_nll"].tolist() == done.records()["gold_nll"].tolist()


@pytest.mark.parametrize(
    ("written", "n"),
    [
        (" yes", 3), ("yes", 3), ("\n yes", 3), (" a b", 3), (" œuf", 4), (" 是", 3),
        (" 🙂", 4), (" ", 1), (" The answer is (A).", 18), (" x ", 2),
    ],
)  # fmt: skip
def test_the_length_of_a_choice_is_in_bytes_without_white_space_before_it(
    written: str, n: int
) -> None:
    assert n_bytes(written) == n


@settings(deadline=None)  # a busy machine takes longer
@given(
    nats=st.lists(st.floats(-500, -0.01), min_size=1, max_size=8),
    length=st.integers(1, 30),
)
def test_per_byte_takes_the_likeliest_of_choices_of_one_length(
    nats: list[float], length: int
) -> None:
    names = tuple(f"{i}".rjust(length, "x") for i in range(len(nats)))
    query = Query(id="q", text="?", choices=names, continuations=tuple(f" {n}" for n in names))
    told = dict(zip(names, nats, strict=True))
    found = scores(query, told, [])
    best = max(found, key=found.__getitem__)
    assert told[best] == pytest.approx(max(nats), rel=1e-12)


def expected(prompt: str, scoring: str, weigh: Any) -> dict[str, float]:
    """The score of each label by plain arithmetic; `weigh` gives a log-likelihood."""
    if scoring == "choices-per-byte":
        return {label: weigh(prompt, f" {label}") / len(label) for label in LABELS}
    bare = ["->"]
    if scoring == "choices-calibrated":
        shown = prompt[: prompt.rindex("n ")]
        bare = [f"{shown}{text} ->" for text in ("N/A", "", "[MASK]")]
    found = {}
    for label in LABELS:
        chances = [math.exp(weigh(text, f" {label}")) for text in bare]
        found[label] = weigh(prompt, f" {label}") - math.log(sum(chances) / len(chances))
    return found


@pytest.mark.parametrize(("scoring", "n_bare"), [("choices-pmi", 1), ("choices-calibrated", 3 * 3)])
@pytest.mark.usefixtures("toy")
def test_bare_prompts_are_weighed_once_and_taken_off(scoring: str, n_bare: int) -> None:
    model = Weighing()
    done = run(model, scoring)
    changed = 0
    for row in done.records().to_dict("records"):
        prompt = prompt_of(done, row)
        best = expected(prompt, scoring, hashed_nats)
        assert row["answer"] == max(best, key=best.__getitem__)
        assert row["gold_nll"] == -hashed_nats(prompt, f" {row['target']}")
        changed += row["answer"] != max(LABELS, key=lambda c: hashed_nats(prompt, f" {c}"))
    assert changed > 2
    # a cue a run; three inputs for each of zero-shot, which both draws share, and two draws
    assert len(model.sent) == len(set(model.sent)) == 36 + n_bare
    records = done.records()
    assert records["cost_usd"].sum() == (36 + n_bare) * 0.25
    assert records[~records["reused"]]["prompt_tokens"].sum() == (36 + n_bare) * 10


@pytest.mark.parametrize("scoring", ["choices-pmi", "choices-calibrated"])
@pytest.mark.usefixtures("toy")
def test_bare_prompts_keep_the_shots_of_a_query_where_calibration_needs_them(scoring: str) -> None:
    model = Weighing()
    done = run(model, scoring, shots=[2], draws=1, variants=["nearest=TFIDF"])
    for row in done.records().to_dict("records"):
        best = expected(prompt_of(done, row), scoring, hashed_nats)
        assert row["answer"] == max(best, key=best.__getitem__)


@pytest.mark.usefixtures("toy")
def test_where_a_bare_prompt_fails_its_answers_are_missing_and_sent_again() -> None:
    model = Weighing(fate="bare fails")
    done = run(model, "choices-calibrated", shots=[2], draws=1)
    assert set(done.records()["error"]) == {"no memory"}
    assert done.records()["cost_usd"].sum() == 2 * 0.25
    assert len(model.sent) == 3
    done = run(Weighing(), "choices-calibrated", shots=[2], draws=1)
    assert set(done.records()["status"]) == {"ok"}


def test_a_query_that_ends_in_its_input_has_no_cue(toy: Path) -> None:
    source = (toy / "prompts/toy.jinja").read_text()
    source = source.replace("{% block query %}{{ input }} ->", "{% block query %}-> {{ input }}")
    (toy / "prompts/toy.jinja").write_text(source)
    with pytest.raises(TemplateError, match="no cue of an answer") as caught:
        run(Weighing(), "choices-pmi")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("nats", "bare", "best"),
    [
        ((-1.0, -2.0), [(-1.0, -3.0)], "b"),
        ((-1.0, -2.0), [(-1.0, -2.0)], "a"),  # of equals the first
        ((-math.inf, -900.0), [(-math.inf, -1.0)], "b"),
        ((-3.0, -2.0), [(-math.inf, -1.0)], "a"),
        ((-900.0, -901.0), [(-800.0, -802.0), (-850.0, -803.0)], "b"),
    ],
)
def test_what_is_taken_off_is_the_log_of_the_mean_probability(
    nats: tuple[float, ...], bare: list[tuple[float, ...]], best: str
) -> None:
    query = Query(id="q", text="?", choices=("a", "b"), continuations=(" a", " b"))
    told = [dict(zip("ab", one, strict=True)) for one in [nats, *bare]]
    found = scores(query, told[0], told[1:])
    assert max(found, key=found.__getitem__) == best


@pytest.mark.usefixtures("toy")
def test_an_answer_without_the_likelihood_of_each_choice_is_missing() -> None:
    records = run(Weighing(fate="untold"), "choices-per-byte", shots=[0], draws=1).records()
    assert set(records["status"]) == {"failed"}
    assert set(records["error"]) == {"the back end does not tell the log-likelihood of each choice"}


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "function"])
@pytest.mark.usefixtures("toy", "keys")
def test_back_ends_that_weigh_no_choices_are_refused_in_one_line(model: str) -> None:
    given = ScriptedModel(lambda prompt: "even") if model == "function" else model
    with pytest.raises(SpecError, match="tells no log-likelihood of each choice") as caught:
        run(given, "choices-per-byte")
    assert "\n" not in str(caught.value)
    assert "vllm/" in str(caught.value)


@pytest.mark.usefixtures("toy")
def test_reference_learners_answer_as_they_always_do() -> None:
    plain = run("baseline/knn", "choices").records()
    other = run("baseline/knn", "choices-per-byte").records()
    assert plain["answer"].tolist() == other["answer"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["choices-per-byte", "choices-pmi", "choices-calibrated"])
def test_a_local_model_takes_the_choice_that_plain_forwards_give(toy: Path, scoring: str) -> None:
    lines = [
        f'{{"id": "t{i}", "text": "n {i}", "label": "{parity(i)}"}}\n' for i in range(100, 103)
    ]
    (toy / "data/toy/test.jsonl").write_text("".join(lines))
    folder = save_tiny_model(toy / "model", "llama", "byte_bpe")
    done = run(f"hf/{folder}", scoring)
    seen: dict[tuple[str, str], float] = {}

    def weigh(prompt: str, written: str) -> float:
        if (prompt, written) not in seen:
            seen[prompt, written] = -plain_nll(folder, prompt, written)
        return seen[prompt, written]

    for row in done.records().to_dict("records"):
        prompt = prompt_of(done, row)
        best = expected(prompt, scoring, weigh)
        assert row["answer"] == max(best, key=best.__getitem__)
        assert row["gold_nll"] == pytest.approx(-weigh(prompt, f" {row['target']}"), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["choices-pmi", "choices-calibrated"])
@pytest.mark.usefixtures("toy", "keys")
def test_completions_that_echo_prompts_weigh_bare_ones_too(scoring: str) -> None:
    def weigh(prompt: str, written: str) -> float:
        before, told = pieces(prompt), pieces(prompt + written)
        steps = range(len(before), len(told))
        return sum(hashed_logprob("".join(told[:i]), told[i]) for i in steps)

    with LoopbackServer(lambda prompt: " even") as server:
        done = run(
            "openai/some-model", scoring, base_url=server.base_url("openai"), queries=4, draws=1,
            model_args={"api": "completions"},
        )  # fmt: skip
        n_requests = len(server.requests)
    n_bare = 1 if scoring == "choices-pmi" else 2 * 3
    assert n_requests == 2 * (2 * 4 + n_bare)  # one for each choice
    for row in done.records().to_dict("records"):
        best = expected(prompt_of(done, row), scoring, weigh)
        assert row["answer"] == max(best, key=best.__getitem__)
