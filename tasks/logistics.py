"""Deliver packages by truck and airplane: the plan of a Logistics problem in PDDL.

1,300 pool problems and 600 queries, all different, of 2 or 3 cities and 1 or 2 packages, with
shortest plans (Agarwal et al. 2024, section 2.2). logistics:planbench has the 285 problems and
plans of PlanBench (Valmeekam et al. 2023): 185 and 100. An answer is right when its plan is valid,
however long; the domain is not in the prompt. Needs the extra `planning`.
"""

import numpy as np

from icl_harness import Example, Row, Task, holdout, plan_match, rows, shortest_plan, task
from icl_harness import logistics_world as world

N_POOL, N_QUERIES = 1300, 600


def sample(
    rng: np.random.Generator, variant: str, draw: int
) -> tuple[list[Example], list[Example]]:
    examples = []
    for number, problem in enumerate(world.random_problems(rng, N_POOL + N_QUERIES)):
        plan = world.as_plan(shortest_plan(problem))
        examples.append(Example(id=f"x{number}", input=world.as_pddl(problem), target=plan))
    return examples[:N_POOL], examples[N_POOL:]


def published(row: Row) -> Example:
    world.need_planning()
    world.read_problem(row["problem_pddl"])  # raises where it is none
    steps = [tuple(line.strip(" ()").split()) for line in row["plan"].lower().split("\n")]
    return Example(
        id=f"instance-{row['instance_id']}",
        input=row["problem_pddl"],
        target=world.as_plan(filter(None, steps)),
    )


@task(subsets=("generated", "planbench"))
def logistics(source: str) -> Task:
    generated = source == "generated"
    problems = rows("problems", "logistics_planbench/problems")
    pool, queries = (None, None) if generated else holdout(problems, queries=100)
    return Task(
        generate=sample if generated else None,
        pool=pool,
        queries=queries,
        example=None if generated else published,
        prompts="plan",
        scorer=plan_match,
        chance=0.0,
        max_tokens=1024,
        stop=("\n---",),
    )
