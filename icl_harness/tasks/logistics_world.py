"""The `logistics` world: packages go by truck within cities and by airplane between them.

In: a random generator, or a problem in PDDL. Out: problems, as PDDL and as what it says; plans as
text. The planner is in logistics_planner.py, the judge of plans in scoring/plans.py: both read the
same `DOMAIN`. Its six actions and nine predicates are those of the planning competition of 2000,
which PlanBench uses too; prompts never show it.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from icl_harness.errors import DataError, SpecError

Step = tuple[str, ...]  # an action and its objects
Fact = tuple[str, ...]  # a predicate and its objects

N_CITIES, N_PACKAGES = (2, 3), (1, 2)  # from, to: Agarwal et al. 2024, section 2.2
N_LOCATIONS = (2, 4)  # of each city, its airport included; the paper does not tell
END = "done."  # the word that ends a plan

ACTIONS = {  # with the number of their objects
    "load-truck": 3,
    "load-airplane": 3,
    "unload-truck": 3,
    "unload-airplane": 3,
    "drive-truck": 4,
    "fly-airplane": 3,
}
PREDICATES = {
    "obj": 1,
    "truck": 1,
    "airplane": 1,
    "city": 1,
    "location": 1,
    "airport": 1,
    "at": 2,
    "in": 2,
    "in-city": 2,
}

DOMAIN = """(define (domain logistics-strips)
  (:requirements :strips)
  (:predicates
    (obj ?o) (truck ?t) (airplane ?a) (city ?c) (location ?l) (airport ?l)
    (at ?o ?l) (in ?o ?v) (in-city ?l ?c))
  (:action load-truck :parameters (?o ?t ?l)
    :precondition (and (obj ?o) (truck ?t) (location ?l) (at ?t ?l) (at ?o ?l))
    :effect (and (not (at ?o ?l)) (in ?o ?t)))
  (:action load-airplane :parameters (?o ?a ?l)
    :precondition (and (obj ?o) (airplane ?a) (location ?l) (at ?a ?l) (at ?o ?l))
    :effect (and (not (at ?o ?l)) (in ?o ?a)))
  (:action unload-truck :parameters (?o ?t ?l)
    :precondition (and (obj ?o) (truck ?t) (location ?l) (at ?t ?l) (in ?o ?t))
    :effect (and (not (in ?o ?t)) (at ?o ?l)))
  (:action unload-airplane :parameters (?o ?a ?l)
    :precondition (and (obj ?o) (airplane ?a) (location ?l) (at ?a ?l) (in ?o ?a))
    :effect (and (not (in ?o ?a)) (at ?o ?l)))
  (:action drive-truck :parameters (?t ?from ?to ?c)
    :precondition (and (truck ?t) (location ?from) (location ?to) (city ?c)
      (at ?t ?from) (in-city ?from ?c) (in-city ?to ?c))
    :effect (and (not (at ?t ?from)) (at ?t ?to)))
  (:action fly-airplane :parameters (?a ?from ?to)
    :precondition (and (airplane ?a) (airport ?from) (airport ?to) (at ?a ?from))
    :effect (and (not (at ?a ?from)) (at ?a ?to))))
"""


@dataclass(frozen=True)
class Problem:
    """What a problem says: its objects, the facts at its beginning and those wanted at its end."""

    objects: tuple[str, ...]
    init: tuple[Fact, ...]
    goal: tuple[Fact, ...]


def random_problems(rng: np.random.Generator, n: int) -> list[Problem]:
    """Return `n` problems, all different."""
    found: dict[str, Problem] = {}
    while len(found) < n:
        problem = random_problem(rng)
        found[as_pddl(problem)] = problem
    return list(found.values())


def random_problem(rng: np.random.Generator) -> Problem:
    """Return a problem with a truck and an airplane for each city, and packages elsewhere than
    they shall be.
    """
    n_cities, n_packages = between(rng, N_CITIES), between(rng, N_PACKAGES)
    places = [places_of_city(rng, city) for city in range(n_cities)]
    everywhere = list(itertools.chain.from_iterable(places))
    airports = [its_places[0] for its_places in places]
    trucks = [(f"t{city}", str(rng.choice(places[city]))) for city in range(n_cities)]
    airplanes = [(f"a{city}", str(rng.choice(airports))) for city in range(n_cities)]
    goal: list[Fact] = []
    packages: list[tuple[str, str]] = []
    for number in range(n_packages):
        start, end = rng.choice(len(everywhere), size=2, replace=False).tolist()
        packages.append((f"p{number}", everywhere[start]))
        goal.append(("at", f"p{number}", everywhere[end]))
    init: list[Fact] = []
    for city, its_places in enumerate(places):
        init += [("city", f"c{city}"), ("airport", its_places[0])]
        for place in its_places:
            init += [("location", place), ("in-city", place, f"c{city}")]
    for kind, things in (("truck", trucks), ("airplane", airplanes), ("obj", packages)):
        for thing, place in things:
            init += [(kind, thing), ("at", thing, place)]
    cities = [f"c{city}" for city in range(n_cities)]
    movable = [thing for thing, _ in (*trucks, *airplanes, *packages)]
    return Problem((*cities, *everywhere, *movable), tuple(init), tuple(goal))


def places_of_city(rng: np.random.Generator, city: int) -> list[str]:
    """Return the locations of a city; the first is its airport."""
    return [f"l{city}-{number}" for number in range(between(rng, N_LOCATIONS))]


def between(rng: np.random.Generator, limits: tuple[int, int]) -> int:
    """Return a whole number from the first of two limits to the second."""
    return int(rng.integers(limits[0], limits[1], endpoint=True))


def as_pddl(problem: Problem) -> str:
    """Return a problem as PDDL, its facts a line for each object."""
    lines: dict[str, list[str]] = {}
    for fact in problem.init:
        lines.setdefault(fact[1], []).append(f"({' '.join(fact)})")
    init = "\n".join("    " + " ".join(facts) for facts in lines.values())
    goal = " ".join(f"({' '.join(fact)})" for fact in problem.goal)
    return (
        "(define (problem logistics)\n"
        "  (:domain logistics-strips)\n"
        f"  (:objects {' '.join(problem.objects)})\n"
        f"  (:init\n{init})\n"
        f"  (:goal (and {goal})))"
    )


def read_problem(text: str) -> Problem:
    """Return what a problem in PDDL says, letters in lower case. Raises `DataError`."""
    text = re.sub(r";.*", "", text).lower()
    parts = re.fullmatch(r"(.*)\(\s*:init\b(.*)\(\s*:goal\b(.*)", text, re.DOTALL)
    objects = re.search(r"\(\s*:objects\b([^()]*)\)", text)
    if parts is None or objects is None:
        raise DataError(
            "it is no problem in PDDL, which has (:objects …), (:init …), (:goal …), in this order."
        )
    problem = Problem(tuple(objects[1].split()), facts_in(parts[2]), facts_in(parts[3]))
    if "-" in problem.objects:
        raise DataError("its objects have types; they must be facts, as (truck t0) is.")
    for fact in (*problem.init, *problem.goal):
        if PREDICATES.get(fact[0]) != len(fact) - 1 or not set(fact[1:]) <= set(problem.objects):
            raise DataError(
                f"its fact ({' '.join(fact)}) is none of the logistics domain without types: "
                f"{', '.join(PREDICATES)}, of the objects that it lists."
            )
    return problem


def facts_in(text: str) -> tuple[Fact, ...]:
    """Return the innermost lists of a text in PDDL."""
    found = (tuple(inner.split()) for inner in re.findall(r"\(([^()]+)\)", text))
    return tuple(fact for fact in found if fact and fact != ("and",))


def as_plan(steps: Iterable[Step]) -> str:
    """Return a plan as prompts show it: one action a line, then the word that ends it."""
    return "\n".join([*(" ".join(step) for step in steps), END])


def need_planning() -> None:
    """Raise `SpecError` where the extra `planning` is not installed."""
    for module in ("pyperplan", "unified_planning"):
        if importlib.util.find_spec(module) is None:
            package = module.replace("_", "-")
            raise SpecError(f"it needs {package}: pip install 'icl-harness[planning]'.")
