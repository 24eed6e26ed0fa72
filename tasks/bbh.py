"""BIG-Bench Hard: 27 tasks that need reasoning (Suzgun et al. 2023).

`bbh` is all of them, `bbh:paper` the 8 of the many-shot paper (Agarwal et al. 2024). Each is split
by a fixed seed into 150 pool problems and 100 queries, or in that proportion. Answers are asked for
alone, in every mode. With `:cot`, as in bbh:cot, bbh:paper:cot, bbh:snarks:cot, every mode reasons
first: 3 more pool problems have the published rationale and are the shots of supervised mode.
"""

import re
from fractions import Fraction

from icl_harness import Example, Row, Task, bbh_worked, final_match, holdout, hub, task

LEVELS = """boolean_expressions 1/2 causal_judgement 1/2 date_understanding 0.172
disambiguation_qa 0.332 dyck_languages* 0 formal_fallacies 1/2 geometric_shapes* 0.098
hyperbaton 1/2 logical_deduction_five_objects 1/5 logical_deduction_seven_objects* 1/7
logical_deduction_three_objects 1/3 movie_recommendation 0.246 multistep_arithmetic_two* 0
navigate 1/2 object_counting* 0 penguins_in_a_table 1/5 reasoning_about_colored_objects 0.121
ruin_names 1/4 salient_translation_error_detection* 1/6 snarks 1/2 sports_understanding 1/2
temporal_sequences 1/4 tracking_shuffled_objects_five_objects 1/5
tracking_shuffled_objects_seven_objects* 1/7 tracking_shuffled_objects_three_objects 1/3
web_of_lies 1/2 word_sorting* 0"""
# The mean of 1 / number of options; * marks the paper's.
CHANCE = {name: float(Fraction(p)) for name, p in re.findall(r"(\w+)\*? (\S+)", LEVELS)}
GROUPS = {"all": tuple(CHANCE), "paper": tuple(re.findall(r"(\w+)\*", LEVELS))}
COT = {"cot": tuple(f"{name}:cot" for name in GROUPS["all"])}
COT["paper:cot"] = tuple(f"{name}:cot" for name in GROUPS["paper"])
PAIRS = (("False", "True"), ("No", "Yes"), ("no", "yes"))
X = "is the letter in parentheses where options have letters, as in (A), else the option's words."
STEPS = {"rationales": True, "reply": f"X {X}"}
ALONE = {"instruction": "Solve the problem.", "reply": f"Give the answer alone. It {X}"}


def problem(row: Row) -> Example:
    text, target = row["input"], row["target"]
    options = re.findall(r"^(?:(\([A-Z]\))|- (\S+))", text.partition("Options:\n")[2], re.M)
    choices = [letter or word for letter, word in options]
    choices = choices or next((list(pair) for pair in PAIRS if target in pair), [])
    if choices and target not in choices:
        choices.append(target)  # three published rows have no option for their target
    given, steps = tuple(choices), row.get("rationale")
    return Example(id=row["id"], input=text, target=target, rationale=steps, choices=given)


@task(subsets=GROUPS["all"] + COT["cot"], groups=GROUPS | COT, default="all")
def bbh(subset: str) -> Task:
    name, _, cot = subset.partition(":")
    rows = hub("SaylorTwift/bbh", name, split="test", local=f"bbh/tasks/{name}")
    pool, queries = holdout(rows, pool=150, queries=100, local=f"bbh/{name}")
    return Task(
        pool=bbh_worked(pool, name) if cot else pool,
        queries=queries,
        example=problem,
        prompts="solve" if cot else "answer",
        fields=STEPS if cot else {**ALONE, "asked": "Problem", "answer": "Solution"},
        scorer=final_match,
        chance=CHANCE[name],
        max_tokens=1024,  # steps without shots are long: a limit bends the curve
        stop=("\n---", "\nProblem:"),
    )
