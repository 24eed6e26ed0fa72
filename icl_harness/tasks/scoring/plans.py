"""Plans: does a list of actions lead from the beginning of a problem to its goal?

In: an answer, and an example whose input is a `logistics` problem in PDDL. Out: 1 where
unified-planning's validator (extra `planning`) finds every action applicable and the goal reached,
however long the plan is, else 0.

An action is read as a person would, whatever its case, with or without parentheses, commas, numbers
before it, words around it: `(load-truck p0 t0 l0-1)`, `2. Load_Truck(p0, t0, l0-1)`. The plan is
what stands in the last fenced block with actions, else the whole answer, up to the word `done.`,
which may be missing. An action or object that does not exist and a wrong number of objects make it
invalid. It is unreadable, and counted as unparsed, where there is neither an action nor `done.`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache, lru_cache
from typing import Any

from icl_harness.examples import Example
from icl_harness.tasks.logistics_world import (
    ACTIONS,
    DOMAIN,
    PREDICATES,
    Step,
    need_planning,
    read_problem,
)
from icl_harness.tasks.scoring.base import UNPARSED, Score, spoken

_NAME = re.compile(
    r"(?<![\w-])(?:(?:un)?load[\s_-]?(?:truck|airplane)|drive[\s_-]?truck|fly[\s_-]?airplane)(?![\w-])"
)
_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_NUMBER = re.compile(r"^[\s>*•(\[-]*(?:(?:step|action)\s*)?(?:\d+\s*[.):\]-])?[\s*-]*")
_COMMENT = re.compile(r"[);#:|—–→\n]|//|->|=>|\s-\s|\.(?=\s|$)")
_DONE = re.compile(r"(?<![\w-])done\W*$")
_BETWEEN = {"from", "to", "into", "at", "in", "on", "with"}  # as in "t0 from l0-0 to l0-1"
_OBJECT = re.compile(r"[a-z]+_?\d+(?:[-_]\d+)*")  # what could be the name of one


def plan_match(answer: str, example: Example) -> Score:
    """Return 1 where the plan is valid, 0 where it is not or where there is none."""
    problem = read_problem(example.input)
    steps = read_plan(answer, problem.objects)
    if steps is None:
        return UNPARSED
    return Score("; ".join(map(" ".join, steps)) or "done.", float(is_valid(example.input, steps)))


def read_plan(answer: str, objects: Collection[str]) -> list[Step] | None:
    """Return the actions of an answer, right or wrong; None where it holds no plan."""
    text = spoken(answer).casefold()
    for block in reversed(_FENCE.findall(text)):
        steps, _ = steps_until_done(block, objects)
        if steps:
            return steps
    steps, is_done = steps_until_done(text, objects)
    return steps if steps or is_done else None


def steps_until_done(text: str, objects: Collection[str]) -> tuple[list[Step], bool]:
    """Return the actions up to the word that ends a plan, and whether it is there."""
    steps: list[Step] = []
    for line in text.split("\n"):
        steps += steps_of_line(line.replace("`", " "), objects)
        if _DONE.search(line) and (steps or re.fullmatch(r"\W*done\W*", line)):
            return steps, True
    return steps, False


def steps_of_line(line: str, objects: Collection[str]) -> Iterator[Step]:
    """Yield the actions of a line: those of the domain, wherever they begin, else another one."""
    names = list(_NAME.finditer(line))
    ends = [*(name.start() for name in names), len(line)][1:]
    for name, end in zip(names, ends, strict=True):
        is_alone = not re.search(r"\w", line[name.end() :] + _NUMBER.sub("", line[: name.start()]))
        step = known_step(name[0], line[name.end() : end], objects)
        if step is not None and (len(step) > 1 or is_alone):
            yield step
    other = None if names else other_step(line, objects)
    if other is not None:
        yield other


def other_step(line: str, objects: Collection[str]) -> Step | None:
    """Return the action of a line that names none of the domain's: a word and objects alone, such
    as (wait t0); None where the line is something else, a heading, a fact or a sentence.
    """
    words = words_in(_NUMBER.sub("", line))
    if ":" in line or not words or words[0] in PREDICATES:
        return None
    n_needed = 1 if line.strip().startswith("(") else 2
    are_objects = all(is_object(word, objects) for word in words[1:])
    is_name = re.fullmatch(r"[a-z][a-z_-]*", words[0])
    return tuple(words) if is_name and are_objects and len(words) > n_needed else None


def known_step(name: str, rest: str, objects: Collection[str]) -> Step | None:
    """Return an action of the domain with the objects that follow it, be they too few, too many or
    unknown; None where no objects follow, but words.
    """
    action = re.sub(r"[\s_-]?(truck|airplane)$", r"-\1", name)
    words = [word for word in words_in(rest) if word not in _BETWEEN]
    n_objects = ACTIONS[action]
    are_objects = [is_object(word, objects) for word in words[: n_objects + 1]]
    if all(are_objects[:n_objects]) and len(words) >= n_objects:
        has_more = len(are_objects) > n_objects and are_objects[n_objects]
        return (action, *words[: n_objects + has_more])
    if " " in name:
        return None  # two words of a sentence, as in "load truck t0 first"
    if any(are_objects):
        return (action, *words[: n_objects + 1])
    return None if words else (action,)


def words_in(text: str) -> list[str]:
    """Return the words of a text up to where a comment begins."""
    text = re.sub(r"^[\s(:\[*]+", "", text)
    return [word for word in re.split(r"[\s,()\[\]*\"']+", _COMMENT.split(text)[0]) if word]


def is_object(word: str, objects: Collection[str]) -> bool:
    """Return whether a word is an object of the problem, or looks like one."""
    return word in objects or bool(_OBJECT.fullmatch(word))


def is_valid(problem_text: str, steps: list[Step]) -> bool:
    """Return whether unified-planning's validator finds a plan valid; it takes some 20 ms. Raises
    `SpecError` where it is not installed.
    """
    need_planning()
    from unified_planning.engines import SequentialPlanValidator
    from unified_planning.plans import ActionInstance, SequentialPlan

    problem = planning_problem(problem_text)
    for name, *args in steps:
        exist = name in ACTIONS and all(problem.has_object(arg) for arg in args)
        if not exist or len(args) != ACTIONS[name]:
            return False
    instances = []
    for name, *args in steps:
        instances.append(ActionInstance(problem.action(name), [problem.object(a) for a in args]))
    validator = SequentialPlanValidator()
    validator.skip_checks = True  # of what the domain makes use: the same each time
    return bool(validator.validate(problem, SequentialPlan(instances)))


@cache
def planning_domain() -> Any:
    """Return unified-planning's problem of the domain alone."""
    from unified_planning.io import PDDLReader

    return PDDLReader().parse_problem_string(DOMAIN)


@lru_cache(maxsize=1024)
def planning_problem(text: str) -> Any:
    """Return unified-planning's problem of a text in PDDL."""
    from unified_planning.model import Object

    said = read_problem(text)
    problem = planning_domain().clone()
    (kind,) = problem.user_types
    for name in said.objects:
        problem.add_object(Object(name, kind))
    for fact in said.init:
        problem.set_initial_value(planning_fact(problem, fact), True)
    for fact in said.goal:
        problem.add_goal(planning_fact(problem, fact))
    return problem


def planning_fact(problem: Any, fact: tuple[str, ...]) -> Any:
    """Return unified-planning's expression of a fact."""
    return problem.fluent(fact[0])(*(problem.object(name) for name in fact[1:]))
