"""Whole runs whose queries are shown shots of their own, or some behind shared ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from icl_harness import ScriptedModel
from icl_harness.errors import SpecError
from icl_harness.plan.asker import make_plan
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from tests.conftest import N_POOL, N_QUERIES
from tests.runner.test_walk import Listener, go, right

pytestmark = pytest.mark.usefixtures("toy")

DROPS = ["drop-nearest=.1", "drop-farthest=.1"]
ALL = ["farthest=TFIDF", "nearest=BM25", "redraw", "hybrid=4", *DROPS]
# Words: preamble 4, shot 4, query 3, answer 4 (the task's max_tokens).
FIVE_SHOTS = 4 + 4 * 5 + 3 + 4


def plan(**options):
    spec = Spec.from_dict(
        {"tasks": "toy", "models": ["scripted"], "data": "data", "draws": 1, **options}, "test"
    )
    experiment = Experiment(spec, {"scripted": ScriptedModel(right)})
    return asyncio.run(make_plan(experiment, Path("out")))


@pytest.mark.slow
def test_every_selection_runs_is_counted_and_is_planned_as_it_runs() -> None:
    listener = Listener()
    grid = {"modes": ["supervised"], "shots": [0, 2, 8], "variants": ALL}
    planned = sum(row.requests for row in plan(**grid).rows)
    records = go(ScriptedModel(listener), draws=1, **grid).records()
    assert (records["shots_used"] == records["shots"]).all()
    assert (records["score"] == 1).all()
    assert len(records) == len(ALL) * 3 * N_QUERIES
    assert planned == len(listener.prompts) == (~records["reused"]).sum()
    silent = Listener()
    go(ScriptedModel(silent), draws=1, **grid)
    assert silent.prompts == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reinforced", "unsupervised"])
def test_every_selection_runs_in_the_other_modes(mode: str) -> None:
    listener = Listener()
    run = go(ScriptedModel(listener), modes=[mode], shots=[0, 8], variants=ALL, draws=1)
    records = run.records(shot_ids=True)
    assert (records["shots_used"] == records["shots"]).all()
    assert (records["score"] == 1).all()
    shown = {(row.variant, row.shots, tuple(row.shot_ids)) for row in records.itertuples()}
    own = {(v, k) for v, k, ids in shown if len(set(ids)) == k}
    assert own == {(v, k) for v in set(records["variant"]) for k in (0, 8)}
    asked = {p.query.id for p in listener.prompts}
    assert any(id.startswith("train") for id in asked) == (mode == "reinforced")


def test_hybrid_prompts_share_their_block_at_every_larger_count() -> None:
    listener = Listener()
    go(ScriptedModel(listener), variants=["default", "hybrid=4"], shots=[4, 8, 16], draws=1)
    behind = [prompt for prompt in listener.prompts if prompt.query.own]
    assert len(behind) == 2 * N_QUERIES
    assert {len(prompt.query.own_shots) for prompt in behind} == {4, 12}
    (block,) = {prompt.node.hash for prompt in behind}
    four = [p.node.hash for p in listener.prompts if p.leaf.n_shots == 4]
    assert four == [block] * 2 * N_QUERIES, "the prefix of the default, too"


def test_a_window_drops_the_least_similar_shots_before_those_of_the_block() -> None:
    listener = Listener()
    model = ScriptedModel(listener, context_window=FIVE_SHOTS)
    records = go(model, variants=["hybrid=4", "redraw"], shots=[2, 8], draws=1).records()
    used = records.groupby(["variant", "shots"])["shots_used"].unique().map(list).to_dict()
    assert used == {("hybrid=4", 2): [2], ("hybrid=4", 8): [5]} | {
        ("redraw", 2): [2],
        ("redraw", 8): [5],
    }
    five = [p for p in listener.prompts if p.leaf.n_shots == 5 and p.node.n_shots]
    assert {(p.node.n_shots, len(p.query.own_shots)) for p in five} == {(4, 1)}


def test_the_plan_says_what_they_do_to_caches() -> None:
    variants = ["redraw", "hybrid=4", "drop-nearest=.1"]
    assert plan(modes=["supervised"], shots=[0, 8], variants=variants).notes == (
        "variant redraw: shots are drawn anew for each query, so that prompts share the preamble "
        "alone and no cache can hold the shots",
        "variant hybrid=4: prompts share the first 4 shots of the draw, behind which each query "
        "brings its own",
        "variant drop-nearest=0.1: each query brings its own shots, so that prompts share the "
        "preamble alone",
    )


REFUSED = {
    "more shots than are left": (
        {"variants": ["drop-farthest=.5"], "shots": [N_POOL // 2 + 1]},
        rf"drop-farthest=0\.5 leaves {N_POOL // 2} pool examples of toy .* at most {N_POOL // 2}",
    ),
    "nothing but the block": (
        {"variants": ["hybrid=8"], "shots": [0, 8]},
        "hybrid=8: all shots are shared up to 8, .* Ask for more shots",
    ),
    "groups": (
        {"variants": ["redraw"], "queries_per_request": 2},
        "redraw shows each query shots of its own, so that queries cannot share a request",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_selection_cannot_do_is_refused_before_anything_is_asked(case: str) -> None:
    options, message = REFUSED[case]
    listener = Listener()
    with pytest.raises(SpecError, match=message) as caught:
        go(ScriptedModel(listener), **options)
    assert "\n" not in str(caught.value)
    assert listener.prompts == []
