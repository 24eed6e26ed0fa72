"""The task logistics: its problems, their plans, and runs of it in every mode."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import icl_harness
from icl_harness import Example, Prompt, ScriptedModel, logistics_world, plan_match, shortest_plan
from icl_harness.errors import DataError, IclError
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.template import load_template
from icl_harness.tasks.loading import find_tasks, load_examples
from icl_harness.tasks.task import Task
from tests.tasks.scoring.test_plans import simulate

pytest.importorskip("pyperplan")

ROWS = 30


def problem_of(seed: int) -> logistics_world.Problem:
    return logistics_world.random_problem(np.random.default_rng(seed))


def count(problem: logistics_world.Problem, kind: str) -> int:
    return sum(fact[0] == kind for fact in problem.init)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_every_problem_has_the_paper_s_sizes_and_a_plan(seed: int) -> None:
    problem = problem_of(seed)
    n_cities = count(problem, "city")
    assert n_cities in (2, 3)
    assert count(problem, "truck") == count(problem, "airplane") == n_cities
    assert count(problem, "airport") == n_cities
    assert 2 * n_cities <= count(problem, "location") <= 4 * n_cities
    assert count(problem, "obj") == len(problem.goal) in (1, 2)
    assert not set(problem.goal) & set(problem.init)
    text = logistics_world.as_pddl(problem)
    assert logistics_world.read_problem(text) == problem
    plan = [" ".join(step) for step in shortest_plan(problem)]
    assert simulate(text, plan)
    assert not any(simulate(text, plan[:n]) for n in range(len(plan)))


def test_problems_and_plans_are_the_same_on_every_machine() -> None:
    problems = logistics_world.random_problems(np.random.default_rng(7), ROWS)
    assert len(set(problems)) == ROWS
    text = "\n".join(
        logistics_world.as_pddl(problem) + logistics_world.as_plan(shortest_plan(problem))
        for problem in problems
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "923d5eea6ec64d9f"


@pytest.mark.slow
def test_plans_are_as_short_as_fast_downward_s() -> None:
    pytest.importorskip("up_fast_downward")
    from unified_planning.shortcuts import OneshotPlanner, get_environment

    from icl_harness.tasks.scoring.plans import planning_problem

    get_environment().credits_stream = None
    for seed in range(3):
        problem = problem_of(seed)
        with OneshotPlanner(name="fast-downward-opt") as planner:
            found = planner.solve(planning_problem(logistics_world.as_pddl(problem)))
        assert len(found.plan.actions) == len(shortest_plan(problem))


@pytest.mark.slow
def test_plans_are_as_short_as_a_search_without_an_estimate_finds_them() -> None:
    """Breadth first, by a few lines of this test, on problems with two cities and a package."""
    for seed in range(60):
        problem = problem_of(seed)
        if (count(problem, "city"), count(problem, "obj")) == (2, 1):
            assert n_steps_at_least(problem) == len(shortest_plan(problem)), seed


def n_steps_at_least(problem: logistics_world.Problem) -> int:
    """Return how far away the goal is, where states are (truck, truck, airplane, airplane, package)
    and the package may be in a vehicle.
    """
    facts = {fact[0]: [f for f in problem.init if f[0] == fact[0]] for fact in problem.init}
    start = {fact[1]: fact[2] for fact in facts["at"]}
    things = ("t0", "t1", "a0", "a1", "p0")
    places = [fact[1] for fact in facts["location"]]
    goal = problem.goal[0][2]
    layer, seen, n = {tuple(start[thing] for thing in things)}, set(), 0
    while not any(state[4] == goal for state in layer):
        seen |= layer
        layer = {after for state in layer for after in moves(state, places)} - seen
        n += 1
    return n


def moves(state: tuple[str, ...], places: list[str]) -> list[tuple[str, ...]]:
    found = []
    for which, vehicle in enumerate(("t0", "t1", "a0", "a1")):
        airports = [place for place in places if place.endswith("-0")]
        own = [place for place in places if place[1] == vehicle[1]]
        for place in airports if vehicle[0] == "a" else own:
            found.append((*state[:which], place, *state[which + 1 :]))
        if state[4] == state[which]:
            found.append((*state[:4], vehicle))
        if state[4] == vehicle:
            found.append((*state[:4], state[which]))
    return found


def test_there_are_1300_problems_to_show_and_600_to_ask_all_different(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (task,) = find_tasks("logistics")
    assert task.generate is not None
    monkeypatch.setitem(task.generate.__globals__, "shortest_plan", lambda problem: [("wait",)])
    found = load_examples(task, seed=3)
    assert (len(found.pool), len(found.queries), found.n_dropped) == (1300, 600, 0)
    assert len({example.input for example in (*found.pool, *found.queries)}) == 1900
    assert {example.target for example in found.pool} == {"wait\ndone."}


def answers(prompt: Prompt) -> str:
    """Answer by the plan of the problem, by half of it, or by a sentence."""
    asked = Example(id="q", input=prompt.query.input, target="x")
    plan = shortest_plan(logistics_world.read_problem(asked.input))
    which = int(prompt.query.id.removeprefix("x")) % 3
    says = [logistics_world.as_plan(plan), logistics_world.as_plan(plan[:-1]), "I cannot say."]
    return f" {says[which]}"


def small_task() -> Task:
    """Return the task with 14 of its problems to show and 6 to ask."""
    (task,) = find_tasks("logistics")

    def generate(
        rng: np.random.Generator, variant: str, draw: int
    ) -> tuple[list[Example], list[Example]]:
        made = []
        for number, problem in enumerate(logistics_world.random_problems(rng, 20)):
            plan = logistics_world.as_plan(shortest_plan(problem))
            text = logistics_world.as_pddl(problem)
            made.append(Example(id=f"x{number}", input=text, target=plan))
        return made[:14], made[14:]

    return replace(task, generate=generate)


@pytest.mark.parametrize("mode", MODES)
def test_valid_invalid_and_unreadable_plans_are_counted_apart(tmp_path: Path, mode: str) -> None:
    done = icl_harness.run(
        small_task(),
        ScriptedModel(answers),
        modes=[mode],
        shots=[0, 2],
        draws=1,
        out=tmp_path / "r",
    )
    table = done.curves()
    assert table["n_ok"].tolist() == [6, 6]
    assert table["value"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert table["n_unparsed"].tolist() == [2, 2]


def test_reinforced_shots_are_the_model_s_valid_plans(tmp_path: Path) -> None:
    prompts: list[str] = []

    def noted(prompt: Prompt) -> str:
        prompts.append(prompt.text)
        return answers(prompt)

    icl_harness.run(
        small_task(), ScriptedModel(noted), modes=["reinforced"], shots=[4], draws=1,
        out=tmp_path / "r",
    )  # fmt: skip
    shown = prompts[-1].split("\n---\n")[:-1]
    assert len(shown) == 4
    for shot in shown:
        problem, _, plan = shot.partition("Plan as plain text")
        example = Example(id="x", input=problem[problem.index("(define") :], target="x")
        assert plan.endswith("\ndone.")
        assert plan_match(plan.partition("\nPlan:")[2], example).value == 1.0


@pytest.mark.parametrize("model", ["baseline/knn", "baseline/majority"])
def test_baselines_copy_a_plan(tmp_path: Path, model: str) -> None:
    table = icl_harness.run(
        small_task(), model, modes=["supervised"], shots=[0, 8], draws=1, out=tmp_path / "r"
    ).curves()
    assert table["n_ok"].tolist() == [6, 6]
    assert table["n_unparsed"].tolist() == [6, 0]


def test_a_prompt_has_the_problem_and_its_plan_but_neither_preamble_nor_domain() -> None:
    task = small_task()
    found = load_examples(task)
    path = PromptPath(
        load_template(task), "supervised", gold_shots(found.pool[:2], "supervised"), {}
    )
    text = Prompt(path.node(2), path.query(found.queries[0])).text
    first = found.pool[0]
    assert text.startswith(f"Solve this planning problem.\n\n{first.input}\n\nPlan as plain text, ")
    assert f"\nPlan: {first.target}\n---\nSolve this planning problem.\n\n(define" in text
    assert first.target.endswith("\ndone.")
    assert text.endswith(f"{found.queries[0].input}\n\n{text.rpartition(chr(10) * 2)[2]}")
    assert text.endswith("\nPlan:")
    assert ":action" not in text


@pytest.mark.slow
def test_planbench_is_split_by_a_fixed_seed_and_runs(shared_data: Path, tmp_path: Path) -> None:
    (task,) = find_tasks("logistics:planbench")
    found = load_examples(task, data=shared_data)
    assert (len(found.pool), len(found.queries), found.n_dropped) == (185, 100, 0)
    for example in (*found.pool, *found.queries):
        assert simulate(example.input, example.target.split("\n")[:-1])
    done = icl_harness.run(
        "logistics:planbench", "baseline/knn", modes=["supervised"], shots=[4], draws=1, queries=10,
        data=shared_data, out=tmp_path / "r",
    )  # fmt: skip
    assert done.curves()["n_ok"].tolist() == [10]


PUBLISHED = {
    "instance_id": 2,
    "problem_pddl": "(define (problem x) (:objects p) (:init (obj p)) (:goal (and (at p p))))",
    "plan": "(fly)",
}


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("problem_pddl", "Bring it.", r"problems\.jsonl, line 1: it is no problem in PDDL"),
        (
            "problem_pddl",
            "(:objects p - obj) (:init (obj p)) (:goal )",
            r"line 1: its objects have types",
        ),
        ("plan", None, r"line 1: there is no column 'plan'; it has instance_id, problem_pddl"),
    ],
)
def test_a_file_of_other_problems_is_refused_in_one_line(
    tmp_path: Path, column: str, value: str | None, says: str
) -> None:
    row = {**PUBLISHED, column: value}
    row = {name: cell for name, cell in row.items() if cell is not None}
    (tmp_path / "logistics_planbench").mkdir()
    (tmp_path / "logistics_planbench/problems.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=says) as caught:
        load_examples(find_tasks("logistics:planbench")[0], data=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["pyperplan", "unified_planning"])
def test_without_the_extra_the_task_is_listed_and_its_rows_name_what_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == module else find(name)
    )
    (task,) = find_tasks("logistics")
    package = module.replace("_", "-")
    with pytest.raises(IclError, match=rf"needs {package}: pip install 'icl-harness\[planning\]'"):
        load_examples(task)
