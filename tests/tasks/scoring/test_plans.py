"""Plans: read as a person would, and valid where a simulator of a few lines says so too."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness import Example, Score, plan_match
from icl_harness.errors import DataError

pytest.importorskip("unified_planning")
pytest.importorskip("pyperplan")

PROBLEM = """(define (problem two-cities) (:domain logistics-strips)
  (:objects c0 c1 l0-0 l0-1 l1-0 t0 t1 a0 p0)
  (:init (CITY c0) (CITY c1) (LOCATION l0-0) (LOCATION l0-1) (LOCATION l1-0) ; places
    (AIRPORT l0-0) (AIRPORT l1-0) (in-city l0-0 c0) (in-city l0-1 c0) (in-city l1-0 c1)
    (TRUCK t0) (TRUCK t1) (AIRPLANE a0) (OBJ p0)
    (at t0 l0-0) (at t1 l1-0) (at a0 l0-0) (at p0 l0-1))
  (:goal (and (at p0 l0-0))))"""
RIGHT = "drive-truck t0 l0-0 l0-1 c0; load-truck p0 t0 l0-1; drive-truck t0 l0-1 l0-0 c0"
RIGHT += "; unload-truck p0 t0 l0-0"
LINES = RIGHT.split("; ")
PLAIN = "\n".join([*LINES, "done."])
NUMBERED = "\n".join(f"{number}. {line}" for number, line in enumerate(LINES, start=1))
LISP = "\n".join(f"({line})" for line in LINES)
CALLS = [re.sub(r"^(\S+) (.*)$", r"\1(\2)", line).replace(" ", ", ") for line in LINES]


def scored(answer: str) -> Score:
    return plan_match(answer, Example(id="q", input=PROBLEM, target=PLAIN))


READ = {
    "as shots show it": f" {PLAIN}",
    "without its end": "\n".join(LINES),
    "in capitals": PLAIN.upper(),
    "after an empty line": f"\n\n{PLAIN}",
    "in parentheses": LISP,
    "as Fast Downward writes it": f"{LISP}\n; cost = 4 (unit cost)\n",
    "as timed": "\n".join(f"{n}.000: ({line}) [1.000]" for n, line in enumerate(LINES)),
    "numbered": NUMBERED,
    "as steps": re.sub(r"^(\d)\.", r"Step \1:", NUMBERED, flags=re.M),
    "as bullets": "\n".join(f"- `{line}`" for line in LINES) + "\n\nDone!",
    "in bold": "\n".join(f"* **{line}**" for line in LINES),
    "as calls": "\n".join(CALLS),
    "as calls in one line": ", ".join(CALLS),
    "in one line": f"{RIGHT}; done.",
    "without anything between": " ".join([*LINES, "done."]),
    "as JSON": json.dumps(LINES),
    "with underscores": PLAIN.replace("truck ", "truck ").replace("-truck", "_truck"),
    "with spaces": PLAIN.replace("-truck", " truck"),
    "with small words": PLAIN.replace(" l0-0 l0-1 c0", " from l0-0 to l0-1 in c0"),
    "with comments": "\n".join(f"{line}  ; p0 is still away" for line in LINES),
    "with explanations": "\n".join(f"{line} to bring the package closer" for line in LINES),
    "with explanations before": "\n".join(f"Now we drive: {line}" for line in LINES),
    "between sentences": f"Sure! Here is a plan for p0:\n\n{PLAIN}\nThe package p0 has arrived.",
    "in a fence": f"Here it is:\n```pddl\n{LISP}\n```\nEach drive-truck t0 moves the truck.",
    "in the last fence": f"```\n{LINES[0]}\n```\nNo, all of it:\n```\n{PLAIN}\n```",
    "in a fence that is not closed": f"```\n{PLAIN}",
    "after a thought": f"<think>\nfly-airplane a0 l0-0 l1-0?\n</think>\n{PLAIN}",
    "before another problem": f"{PLAIN}\n\nSolve this planning problem.\nfly-airplane a0 l0-0 l1-0",
    "after the names of actions": f"The actions are drive-truck and load-truck.\n{PLAIN}",
    "with carriage returns": PLAIN.replace("\n", "\r\n"),
    "before a token that ends turns": f"{PLAIN}<|im_end|>\nload-truck",
}
INVALID = {
    "an action that does not exist": f"teleport p0 l0-0\n{PLAIN}",
    "another one in parentheses": f"(wait t0)\n{PLAIN}",
    "an object that does not exist": PLAIN.replace("p0", "p7"),
    "a word for an object": f"load-truck package t0 l0-0\n{PLAIN}",
    "an object too few": PLAIN.replace(" c0", ""),
    "an object too many": PLAIN.replace("p0 t0 l0-1", "p0 t0 l0-1 c0"),
    "names without objects": "drive-truck\nload-truck\ndrive-truck\nunload-truck\ndone.",
    "the goal not reached": "\n".join(LINES[:-1]),
    "not applicable": "\n".join(LINES[1:]),
    "another order": "\n".join([LINES[1], LINES[0], *LINES[2:]]),
    "objects exchanged": PLAIN.replace("load-truck p0 t0", "load-truck t0 p0"),
    "a truck that flies": f"fly-airplane t0 l0-0 l1-0\n{PLAIN}",
    "a truck in another city": f"drive-truck t0 l0-0 l1-0 c0\n{PLAIN}",
    "an airplane from no airport": f"fly-airplane a0 l0-1 l0-0\n{PLAIN}",
    "no action": "done.",
}
UNREADABLE = {
    "nothing": "",
    "a sentence": "There is no plan that solves this problem.",
    "a story": "The truck t0 goes to l0-1, takes p0 and brings it to l0-0.",
    "facts": "(at p0 l0-0)\n(in p0 t0)",
    "a heading": "Package p0:",
    "a thought that never ends": f"<think>{PLAIN}",
    "the problem again": PROBLEM,
}


@pytest.mark.parametrize("dress", READ)
def test_a_plan_is_read_as_a_person_would(dress: str) -> None:
    assert scored(READ[dress]) == Score(RIGHT, 1.0)


@pytest.mark.parametrize("fault", INVALID)
def test_a_plan_that_cannot_be_carried_out_is_wrong_but_read(fault: str) -> None:
    score = scored(INVALID[fault])
    assert score.value == 0.0
    assert score.parsed is not None


@pytest.mark.parametrize("answer", UNREADABLE)
def test_what_holds_no_plan_is_unparsed(answer: str) -> None:
    assert scored(UNREADABLE[answer]) == Score(None, 0.0)


def test_a_longer_way_is_right_too() -> None:
    detour = ["fly-airplane a0 l0-0 l1-0", "drive-truck t0 l0-0 l0-0 c0", *LINES]
    assert scored("\n".join(detour)).value == 1.0


def test_an_input_that_is_no_problem_is_an_error_of_the_data() -> None:
    for text, says in (
        ("Bring p0 to l0-0.", r"no problem in PDDL, which has \(:objects"),
        (PROBLEM.replace("(OBJ p0)", "(package p0)"), r"its fact \(package p0\) is none of the l"),
        (PROBLEM.replace("(at p0 l0-1)", "(at p0 l9-9)"), r"its fact \(at p0 l9-9\) is none"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            plan_match(PLAIN, Example(id="q", input=text, target="x"))
        assert "\n" not in str(caught.value)


PIECES = [
    "load-truck", "Fly_Airplane", "drive truck", "wait", "p0", "t0", "l0-1", "a0", "l0-0", "c0",
    "l1-0", "p9", "done.", "\n", "(", ")", ",", "1.", "```", ": ", " ", "- ", "and",
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)))
def test_any_text_is_scored_without_an_error(text: str) -> None:
    score = scored(text)
    assert score.value in (0.0, 1.0)
    assert score.parsed is not None or score.value == 0.0


@pytest.mark.parametrize(
    "part", ["```\n", "done.", "load-truck ", "(", "1. ", "- ", "p0 ", "done\n"]
)
def test_endless_answers_take_no_long_time(part: str) -> None:
    assert scored(part * (200_000 // len(part)) + "x").value == 0.0


# What follows shares nothing with the scorer: another reader of problems, and STRIPS by hand.


def simulate(problem: str, plan: list[str]) -> bool:
    """Return whether a plan, an action a string, reaches the goal: facts are tuples in a set."""
    before, _, goal_text = problem.lower().partition("(:goal")
    facts = {tuple(f.split()) for f in re.findall(r"\(([^():]+)\)", before.partition("(:init")[2])}
    goal = {tuple(f.split()) for f in re.findall(r"\((at [^()]+)\)", goal_text)}
    for action in plan:
        effect = effect_of(action.split(), facts)
        if effect is None:
            return False
        facts.discard(effect[0])
        facts.add(effect[1])
    return goal <= facts


def effect_of(words: list[str], facts: set[tuple[str, ...]]) -> tuple[tuple, tuple] | None:
    """Return the fact that ends and the one that begins; None where the action cannot be done."""
    match words:
        case ["load-truck" | "load-airplane" as name, package, vehicle, place]:
            kind, ends, begins = name[5:], ("at", package, place), ("in", package, vehicle)
            needs = [("obj", package), (kind, vehicle), ("location", place), ("at", vehicle, place)]
        case ["unload-truck" | "unload-airplane" as name, package, vehicle, place]:
            kind, ends, begins = name[7:], ("in", package, vehicle), ("at", package, place)
            needs = [("obj", package), (kind, vehicle), ("location", place), ("at", vehicle, place)]
        case ["drive-truck", truck, start, end, city]:
            ends, begins = ("at", truck, start), ("at", truck, end)
            needs = [("truck", truck), ("location", start), ("location", end), ("city", city)]
            needs += [("in-city", start, city), ("in-city", end, city)]
        case ["fly-airplane", airplane, start, end]:
            ends, begins = ("at", airplane, start), ("at", airplane, end)
            needs = [("airplane", airplane), ("airport", start), ("airport", end)]
        case _:
            return None
    return (ends, begins) if {*needs, ends} <= facts else None


def mutated(plan: list[str], objects: list[str], rng: random.Random) -> list[str]:
    """Return the plan with one thing changed; it may still be valid."""
    plan, place = list(plan), rng.randrange(len(plan))
    words = plan[place].split()
    ways = {
        "drop": lambda: plan[:place] + plan[place + 1 :],
        "twice": lambda: [*plan[: place + 1], *plan[place:]],
        "cut": lambda: plan[:place],
        "first dropped": lambda: plan[1:],
        "swap": lambda: [*plan[:place], *plan[place : place + 2][::-1], *plan[place + 2 :]],
        "move": lambda: [*plan[:place], *plan[place + 1 :], plan[place]],
        "reverse": lambda: plan[::-1],
        "object": lambda: put(plan, place, [*words[:-1], rng.choice(objects)]),
        "same kind": lambda: put(plan, place, exchanged(words, objects, rng)),
        "action": lambda: put(plan, place, [rng.choice(plan).split()[0], *words[1:]]),
        "idle": lambda: [*plan, idle(objects, rng)],
        "fewer": lambda: put(plan, place, words[:-1]),
        "more": lambda: put(plan, place, [*words, rng.choice(objects)]),
    }
    return ways[rng.choice(list(ways))]()


def put(plan: list[str], place: int, words: list[str]) -> list[str]:
    return [*plan[:place], " ".join(words), *plan[place + 1 :]]


def exchanged(words: list[str], objects: list[str], rng: random.Random) -> list[str]:
    """Return the action with one object exchanged for another whose name begins alike."""
    which = rng.randrange(1, len(words))
    alike = [name for name in objects if name[0] == words[which][0]]
    return [*words[:which], rng.choice(alike), *words[which + 1 :]]


def idle(objects: list[str], rng: random.Random) -> str:
    """Return a flight that may be possible and changes no package."""
    airplane = rng.choice([name for name in objects if name[0] == "a"])
    ports = [name for name in objects if name[0] == "l" and name.endswith("-0")]
    return f"fly-airplane {airplane} {rng.choice(ports)} {rng.choice(ports)}"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_published_plans_and_mutated_ones_are_judged_as_a_simulator_does(
    shared_data: Path, part: int
) -> None:
    """All 285 plans and four mutations of each with ICL_TRIES=1, else of every 60th problem."""
    text = (shared_data / "logistics_planbench/problems.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    assert len(rows) == 285
    rng = random.Random(part)
    verdicts = []
    is_thorough = float(os.environ.get("ICL_TRIES", "0.5")) >= 1
    for row in rows[part :: 6 if is_thorough else 60]:
        problem = row["problem_pddl"]
        objects = re.findall(r"[\w-]+", problem.partition(":objects")[2].partition(")")[0])
        plan = re.findall(r"[^()\n]+", row["plan"])
        assert len(plan) == row["plan_length"]
        assert simulate(problem, plan)
        example = Example(id="q", input=problem, target=row["plan"])
        assert plan_match(row["plan"], example).value == 1.0
        for _ in range(4):
            other = mutated(plan, objects, rng)
            expected = simulate(problem, other)
            assert plan_match("\n".join([*other, "done."]), example).value == expected, other
            verdicts.append(expected)
    assert len(verdicts) >= (188 if is_thorough else 16)  # in all 1,140, or 96
    assert sum(verdicts) > 0 or not is_thorough
    assert sum(verdicts) < len(verdicts)
