"""Variants from end to end: whole runs of the toy task, whose scripted model keeps every prompt."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

import icl_harness
from icl_harness import Prompt, ScriptedModel
from icl_harness.errors import SpecError
from icl_harness.plan.asker import make_plan
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from tests.api_runs import Parity, Wire, every_wire, plant_keys, sent_asks
from tests.conftest import N_POOL, N_QUERIES, parity
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("toy")


class Listener:
    """Right about every query and about half of the pool, in words of its own."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        number = int(prompt.query.input.split()[1])
        is_right = number >= 100 or number % 4 < 2
        return f" {parity(number if is_right else number + 1)} I say"

    @property
    def n_attempts(self) -> int:
        """How many requests were for the bank."""
        return sum(prompt.query.id.startswith("train") for prompt in self.prompts)


def go(model, out="out", **options):
    options = {"modes": ["supervised"], "shots": [0, 2, 8], "draws": 2, "data": "data", **options}
    return icl_harness.run("toy", model, out=out, **options)


def shots_of(run, variant="default", mode="supervised", shots=8, draw=0):
    """The ids of the shots of one cell, in the order in which its queries were shown them."""
    records = run.records(shot_ids=True).query(
        "variant == @variant and mode == @mode and shots == @shots and draw == @draw"
    )
    assert len(records) == N_QUERIES
    return [list(ids) for ids in records["shot_ids"]]


@pytest.mark.slow
def test_the_column_variant_holds_the_canonical_text() -> None:
    variants = ["default", "nearest=tfidf+bank", "noise=.50+flipped"]
    run = go(ScriptedModel(Listener()), variants=variants, shots=[2], draws=1)
    names = {"default", "bank+nearest=TFIDF", "flipped+noise=0.5"}
    assert set(run.records()["variant"]) == set(run.curves()["variant"]) == names
    assert set(run.header["spec"]["variants"]) == names


@pytest.mark.slow
def test_the_same_variant_written_otherwise_resumes_and_is_refused_twice() -> None:
    go(ScriptedModel(Listener()), variants=["noise=.5"], shots=[2])
    silent = Listener()
    go(ScriptedModel(silent), variants=["noise=0.50"], shots=[2])
    assert silent.prompts == []
    with pytest.raises(SpecError, match=r"noise=0\.5.* twice"):
        go(ScriptedModel(silent), out="other", variants=["noise=.5", "noise=0.5"])


@pytest.mark.slow
def test_the_bank_variant_shows_what_reinforced_mode_shows_with_gold_answers() -> None:
    listener = Listener()
    modes = ["supervised", "reinforced"]
    run = go(ScriptedModel(listener), modes=modes, variants=["default", "bank"], shots=[8, 40])
    assert listener.n_attempts == N_POOL * 4, "one bank serves all modes, variants and draws"
    for draw in (0, 1):
        for shots in (8, 40):
            own = shots_of(run, "default", "reinforced", shots, draw)
            assert shots_of(run, "bank", "supervised", shots, draw) == own
            assert shots_of(run, "bank", "reinforced", shots, draw) == own
            assert len(own[0]) == min(shots, N_POOL // 2)
    asked = [p for p in listener.prompts if p.query.id.startswith("test")]
    for prompt in asked:
        words = Counter(" I say" in line for line in prompt.text.splitlines()[1:-1])
        assert set(words) == {prompt.node.mode == "reinforced"}


@pytest.mark.slow
def test_a_bank_that_a_variant_needs_is_made_in_supervised_mode_too_or_taken() -> None:
    listener = Listener()
    first = go(ScriptedModel(listener), out="first", variants=["bank"], bank_samples=2)
    assert listener.n_attempts == N_POOL * 2
    listener = Listener()
    again = go(ScriptedModel(listener), out="again", variants=["bank"], bank="first")
    assert listener.n_attempts == 0
    assert again.records()["node_hash"].tolist() == first.records()["node_hash"].tolist()
    with pytest.raises(SpecError, match=r"--bank-samples .*bank"):
        go(ScriptedModel(listener), out="third", variants=["sorted"], bank_samples=2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["supervised", "reinforced", "unsupervised"])
def test_nearest_shots_are_each_query_s_own_and_counted(mode: str) -> None:
    listener = Listener()
    run = go(ScriptedModel(listener), modes=[mode], variants=["nearest=TFIDF"], draws=1)
    records = run.records()
    assert (records["shots_used"] == records["shots"]).all()
    assert (records["score"] == 1).all()
    asked = [p for p in listener.prompts if p.query.id.startswith("test")]
    assert len({p.node.hash for p in asked}) == 1, "the preamble alone is shared"
    assert {len(p.query.own_shots) for p in asked} == {0, 2, 8}
    by_query = shots_of(run, "nearest=TFIDF", mode)
    assert all(len(ids) == 8 for ids in by_query)


@pytest.mark.slow
@every_wire
def test_nearest_shots_are_messages_of_user_and_assistant_at_every_provider(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_keys(monkeypatch)
    with LoopbackServer(Parity()) as server:
        run = go(
            wire.id,
            base_url=server.base_url(wire.provider),
            model_args=wire.model_args(),
            variants=["nearest=TFIDF"],
            format="chat",
            shots=[2],
            draws=1,
            queries=3,
        )
        sent = [request.parts for request in sent_asks(wire, server)]
    assert (run.records()["score"] == 1).all()
    assert len(sent) == 3
    for preamble, *shots, query in sent:
        assert preamble.startswith("Even or odd?")
        assert query.startswith("n 1")
        assert len(shots) == 4
        answers = [parity(int(text.split()[1])) for text in shots[::2]]
        assert [text.strip() for text in shots[1::2]] == answers


@pytest.mark.slow
def test_a_run_with_nearest_shots_resumes_without_asking() -> None:
    first = go(ScriptedModel(Listener()), variants=["nearest=TFIDF"]).records()
    silent = Listener()
    again = go(ScriptedModel(silent), variants=["nearest=TFIDF"]).records()
    assert silent.prompts == []
    assert again.equals(first)


def test_a_plan_says_which_variants_share_less() -> None:
    variants = ("default", "bank", "order=1+sorted", "nearest=TFIDF")
    spec = Spec(tasks=("toy",), models=("scripted",), data="data", variants=variants, shots=(0, 2))
    experiment = Experiment(spec, {"scripted": ScriptedModel(Listener())})
    assert asyncio.run(make_plan(experiment, Path("out"))).notes == (
        "variant order=1+sorted: shots are reordered for each count, so that prompts of other "
        "counts share no shots",
        "variant nearest=TFIDF: each query brings its own shots, so that prompts share the "
        "preamble alone",
    )


@pytest.mark.slow
def test_other_orders_are_of_the_same_shots_and_zero_shot_prompts_are_the_same() -> None:
    run = go(ScriptedModel(Listener()), variants=["default", "order=1", "sorted"])
    drawn = shots_of(run, draw=1)[0]  # draw 0 happens to be sorted
    for variant in ("order=1", "sorted"):
        assert sorted(shots_of(run, variant, draw=1)[0]) == sorted(drawn)
        assert shots_of(run, variant, draw=1)[0] != drawn
    zero = run.records().query("shots == 0").groupby("variant")["node_hash"].unique()
    assert len({tuple(hashes) for hashes in zero}) == 1


def test_noise_leaves_the_queries_labels_and_changes_the_shots() -> None:
    listener = Listener()
    run = go(ScriptedModel(listener), variants=["noise=1"], shots=[8], draws=1)
    for prompt in listener.prompts:
        shown = {shot.input: shot.target for shot in prompt.node.shots}
        assert all(label != parity(int(text.split()[1])) for text, label in shown.items())
    assert run.curves()["value"].tolist() == [1.0]


REFUSED = {
    "nearest with groups": (
        {"variants": ["nearest=TFIDF"], "queries_per_request": 4},
        "nearest=TFIDF shows each query shots of its own, so that queries cannot share a request",
    ),
    "noise in unsupervised mode": (
        {"variants": ["noise=0.1"], "modes": ["unsupervised"]},
        "noise would do nothing in unsupervised mode",
    ),
    "labels that are not there": ({"variants": ["random"]}, "task toy has no variant 'random'"),
    "an unknown operator": ({"variants": ["noise=0.1+nearst=TFIDF"]}, "Nearest: nearest"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_variant_cannot_do_is_refused_before_anything_is_asked(case: str) -> None:
    options, message = REFUSED[case]
    listener = Listener()
    with pytest.raises(SpecError, match=message) as caught:
        go(ScriptedModel(listener), **options)
    assert "\n" not in str(caught.value)
    assert listener.prompts == []
