"""Variants that choose shots or permute labels, from end to end on the toy task."""

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
from tests.conftest import parity

pytestmark = pytest.mark.usefixtures("toy")


class Listener:
    """Keeps every prompt and answers rightly."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return f" {parity(int(prompt.query.input.split()[1]))}"


def go(variants, listener=None, **options):
    options = {"modes": ["supervised"], "shots": [8], "draws": 1, "data": "data", **options}
    model = ScriptedModel(listener or Listener())
    return icl_harness.run("toy", model, out="out", variants=variants, **options)


@pytest.mark.slow
def test_a_run_shows_repeated_balanced_and_shuffled_shots_and_resumes() -> None:
    listener = Listener()
    variants = ["default", "repeat=2", "balanced", "shuffled", "balanced+repeat=2+shuffled"]
    run = go(variants, listener, shots=[0, 4, 8])
    shown = {}
    for variant, ids in (
        run.records(shot_ids=True)
        .query("shots == 8")[["variant", "shot_ids"]]
        .itertuples(index=False)
    ):
        shown[variant] = list(ids)
    drawn = shown["default"]
    assert shown["repeat=2"] == drawn[:2] * 4
    assert shown["shuffled"] == drawn
    assert len(set(shown["balanced+repeat=2+shuffled"])) == 2
    assert (run.records()["shots_used"] == run.records()["shots"]).all()
    silent = Listener()
    go(variants, silent, shots=[0, 4, 8])
    assert silent.prompts == []


def test_balanced_shots_of_a_run_are_half_odd() -> None:
    listener = Listener()
    go(["balanced"], listener)
    shots = listener.prompts[0].node.shots
    assert Counter(shot.target for shot in shots) == {"even": 4, "odd": 4}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reinforced", "unsupervised"])
def test_repeats_work_in_every_mode(mode: str) -> None:
    listener = Listener()
    go(["repeat=2"], listener, modes=[mode])
    asked = [prompt for prompt in listener.prompts if prompt.query.id.startswith("test")]
    assert {len(prompt.node.shots) for prompt in asked} == {8}
    assert all(len({shot.id for shot in prompt.node.shots}) == 2 for prompt in asked)


@pytest.mark.slow
def test_ids_of_one_run_are_the_shots_of_another() -> None:
    first = go(["default"], draws=2).records(shot_ids=True).query("draw == 1")
    wanted = list(first["shot_ids"].iloc[0])
    Path("mine.txt").write_text("\n".join(wanted))
    listener = Listener()
    run = icl_harness.run(
        "toy", ScriptedModel(listener), out="again", variants=["ids=mine.txt"], shots=[8],
        draws=1, data="data", modes=["supervised"],
    )  # fmt: skip
    assert [shot.id for shot in listener.prompts[0].node.shots] == wanted
    assert run.records()["node_hash"].iloc[0] == first["node_hash"].iloc[0]
    assert run.records()["variant"].iloc[0].startswith("ids=mine.txt@")


def test_a_plan_tells_that_shuffled_prompts_share_no_shots() -> None:
    variants = ("repeat=2", "balanced", "shuffled")
    spec = Spec(tasks=("toy",), models=("scripted",), data="data", variants=variants, shots=(0, 2))
    experiment = Experiment(spec, {"scripted": ScriptedModel(Listener())})
    assert asyncio.run(make_plan(experiment, Path("out"))).notes == (
        "variant shuffled: answers are shuffled among the shots for each count, so that prompts "
        "of other counts share no shots",
    )


REFUSED = {
    "more shots than ids": (
        {"shots": [0, 3]},
        "leaves 2 pool examples of toy.*; --shots asks for 3",
    ),
    "draws that do not differ": ({"shots": [2], "draws": 3}, "the same shots of toy in every draw"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_ids_that_cannot_serve_a_run_are_refused_before_anything_is_asked(case: str) -> None:
    options, message = REFUSED[case]
    ids = go(["default"], shots=[2]).records(shot_ids=True)["shot_ids"].iloc[0]
    Path("mine.txt").write_text("\n".join(ids))
    listener = Listener()
    with pytest.raises(SpecError, match=message) as caught:
        go(["ids=mine.txt"], listener, **options)
    assert "\n" not in str(caught.value)
    assert listener.prompts == []
