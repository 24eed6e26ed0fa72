"""Shortest plans of `logistics` problems, by pyperplan (extra `planning`).

In: a problem of logistics_world.py. Out: its plan, the same on every machine. pyperplan grounds the
actions and searches by A*; what is added is an estimate of the actions left that is never too high,
so that plans are shortest ones and 1,900 take seconds. Fast Downward, which starts a program for
each problem, would take eight minutes; tests hold the lengths to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from icl_harness.tasks.logistics_world import DOMAIN, Fact, Problem, Step, as_pddl, need_planning

MOVING = ("at", "in")  # the predicates that actions change


@dataclass(frozen=True)
class Way:
    """What one package still needs, wherever vehicles are.

    `stops` are where a truck must come for it. An airplane must come to the city `origin`, unless
    the package is in one, `airplane`, and then to the city `end`.
    """

    n_handlings: int  # times it is loaded or unloaded
    stops: tuple[str, ...] = ()
    origin: str | None = None
    end: str | None = None
    airplane: str | None = None


@dataclass(frozen=True)
class Map:
    """Which city a location or a truck belongs to, and the airport of each city."""

    city: dict[str, str]
    airport: dict[str, str]
    trucks: frozenset[str]
    airplanes: frozenset[str]


def shortest_plan(problem: Problem) -> list[Step]:
    """Return a plan of the fewest actions. Raises `SpecError` where pyperplan is not installed."""
    need_planning()
    from pyperplan.search import astar_search
    from pyperplan.task import Task

    start = frozenset(written(fact) for fact in problem.init if fact[0] in MOVING)
    goal = frozenset(map(written, problem.goal))
    still = tuple(fact for fact in problem.init if fact[0] not in MOVING)
    detours = detours_in(problem)
    actions = ground_actions(problem.objects, still)
    usable = reachable([a for a in actions if not a.add_effects & detours], start)
    task = Task("logistics", set(), start, goal, usable)
    plan = astar_search(task, estimate_of(problem))
    assert plan is not None, "there is a way from everywhere to everywhere"
    return [tuple(operator.name.strip("()").split()) for operator in plan]


def written(fact: Fact) -> str:
    """Return a fact as pyperplan writes it."""
    return f"({' '.join(fact)})"


@cache
def parsed_domain() -> Any:
    """Return pyperplan's domain."""
    from pyperplan.pddl.parser import Parser

    parser = Parser(None)
    parser.domInput = DOMAIN
    return parser.parse_domain(read_from_file=False)


@lru_cache(maxsize=256)
def ground_actions(objects: tuple[str, ...], still: tuple[Fact, ...]) -> tuple[Any, ...]:
    """Return the actions that are possible with these objects and facts that never change, by name:
    pyperplan's own order is another one in every process.
    """
    from pyperplan.grounding import ground
    from pyperplan.pddl.parser import Parser

    parser = Parser(None)
    parser.probInput = as_pddl(Problem(objects, still, ()))
    problem = parser.parse_problem(parsed_domain(), read_from_file=False)
    operators = ground(problem, remove_irrelevant_operators=False).operators
    return tuple(sorted(operators, key=lambda operator: operator.name))


def detours_in(problem: Problem) -> set[str]:
    """Return the facts that no shortest plan brings about: that a vehicle is where no package is or
    shall be, but for the airports of such cities.
    """
    land = map_of(problem)
    vehicles = land.trucks | land.airplanes
    useful = {fact[2] for fact in problem.goal}
    useful |= {fact[2] for fact in problem.init if fact[0] == "at" and fact[1] not in vehicles}
    useful |= {land.airport[land.city[place]] for place in useful}
    useless = {fact[1] for fact in problem.init if fact[0] == "location"} - useful
    return {written(("at", *pair)) for pair in itertools.product(vehicles, useless)}


def reachable(actions: Sequence[Any], start: frozenset[str]) -> list[Any]:
    """Return the actions that change anything and may become applicable, were no fact to end."""
    facts = set(start)
    n_before = 0
    while len(facts) > n_before:
        n_before = len(facts)
        for action in actions:
            if action.preconditions <= facts:
                facts |= action.add_effects
    usable = [action for action in actions if action.preconditions <= facts]
    return [action for action in usable if action.add_effects != action.del_effects]


def map_of(problem: Problem) -> Map:
    """Return the map that the facts of a problem make."""
    city = {fact[1]: fact[2] for fact in problem.init if fact[0] == "in-city"}
    airport = {city[fact[1]]: fact[1] for fact in problem.init if fact[0] == "airport"}
    trucks = frozenset(fact[1] for fact in problem.init if fact[0] == "truck")
    for fact in problem.init:
        if fact[0] == "at" and fact[1] in trucks:
            city[fact[1]] = city[fact[2]]
    airplanes = frozenset(fact[1] for fact in problem.init if fact[0] == "airplane")
    return Map(city, airport, trucks, airplanes)


def estimate_of(problem: Problem) -> Callable[[Any], int]:
    """Return the function that says how many actions are left at least, of a node of the search."""
    land, goals = map_of(problem), {package: place for _, package, place in problem.goal}

    @cache
    def understood(text: str) -> tuple[str, str, Way | None]:
        _, thing, where = text.strip("()").split()
        way = way_of(where, goals[thing], land) if thing in goals else None
        return thing, where, way

    @cache
    def estimate(state: frozenset[str]) -> int:
        ways: list[Way] = []
        places: dict[str, str] = {}
        for text in state:
            thing, where, way = understood(text)
            if way is None:
                places[thing] = where
            else:
                ways.append(way)
        return actions_left(ways, places, land)

    return lambda node: estimate(node.state)


def way_of(where: str, goal: str, land: Map) -> Way:
    """Return what a package needs to come from a place or a vehicle to its goal."""
    if where == goal:
        return Way(0)
    end = land.city[goal]
    last: tuple[str, ...] = ()
    if goal != land.airport[end]:
        last = (land.airport[end], goal)
    if where in land.airplanes:
        return Way(1 + len(last), last, end=end, airplane=where)
    here = land.city[where]
    to = goal if here == end else land.airport[here]
    first: tuple[str, ...] = (where, to)
    if where in land.trucks:
        first = (to,)
    elif where == to:
        first = ()
    if here == end:
        return Way(len(first), first)
    return Way(len(first) + 2 + len(last), (*first, *last), origin=here, end=end)


def actions_left(ways: Sequence[Way], places: Mapping[str, str], land: Map) -> int:
    """Return how many actions are left at least: handlings, a drive to each place where a truck
    must stop and none is, a flight to each city where an airplane must come and none is.
    """
    visited = {land.city[places[airplane]] for airplane in land.airplanes}
    n_handlings = 0
    stops, arrivals = set[str](), set[str]()
    for way in ways:
        n_handlings += way.n_handlings
        stops.update(way.stops)
        if way.origin is not None and way.origin not in visited:
            arrivals.add(way.origin)
        if way.end is not None:
            aboard_in = way.airplane and land.city[places[way.airplane]]
            if way.end != aboard_in:
                arrivals.add(way.end)
    stops.difference_update([places[truck] for truck in land.trucks])
    return n_handlings + len(stops) + len(arrivals)
