"""BIG-Bench Hard: 27 tasks that need reasoning (Suzgun et al. 2023).

`bbh` is all of them, `bbh:paper` the 8 of the many-shot paper (Agarwal et al. 2024). Each has one
file, split by a fixed seed into 150 pool problems and 100 queries, or in that proportion. There are
no gold rationales: supervised answers are given alone, the other modes reason first. The chance
level is the mean of 1 / number of options.
"""

import re
from fractions import Fraction

from icl_harness import Example, Row, Task, final_match, holdout, hub, task

LEVELS = """
boolean_expressions 1/2 causal_judgement 1/2 date_understanding 0.172 disambiguation_qa 0.332
dyck_languages 0 formal_fallacies 1/2 geometric_shapes 0.098 hyperbaton 1/2
logical_deduction_five_objects 1/5 logical_deduction_seven_objects 1/7
logical_deduction_three_objects 1/3 movie_recommendation 0.246 multistep_arithmetic_two 0
navigate 1/2 object_counting 0 penguins_in_a_table 1/5 reasoning_about_colored_objects 0.121
ruin_names 1/4 salient_translation_error_detection 1/6 snarks 1/2 sports_understanding 1/2
temporal_sequences 1/4 tracking_shuffled_objects_five_objects 1/5
tracking_shuffled_objects_seven_objects 1/7 tracking_shuffled_objects_three_objects 1/3
web_of_lies 1/2 word_sorting 0
"""
CHANCE = {name: float(Fraction(p)) for name, p in re.findall(r"(\S+) (\S+)", LEVELS)}
PAPER = """
dyck_languages geometric_shapes logical_deduction_seven_objects object_counting word_sorting
multistep_arithmetic_two salient_translation_error_detection tracking_shuffled_objects_seven_objects
"""
PAIRS = (("False", "True"), ("No", "Yes"), ("no", "yes"))
REPLY = (
    "X is the letter in parentheses where options have letters, as in (A), else the option's words."
)


def problem(row: Row) -> Example:
    listed = row["input"].partition("Options:\n")[2]
    options = re.findall(r"^(?:(\([A-Z]\))|- (\S+))", listed, re.MULTILINE)
    choices = [letter or word for letter, word in options]
    choices = choices or next((list(pair) for pair in PAIRS if row["target"] in pair), [])
    if choices and row["target"] not in choices:
        choices.append(row["target"])  # three published rows have no option for their target
    return Example(id=row["id"], input=row["input"], target=row["target"], choices=tuple(choices))


@task(subsets=tuple(CHANCE), groups={"paper": tuple(PAPER.split())}, default="all")
def bbh(subset: str) -> Task:
    rows = hub("SaylorTwift/bbh", subset, split="test", local=f"bbh/tasks/{subset}")
    pool, queries = holdout(rows, pool=150, queries=100, local=f"bbh/{subset}")
    return Task(
        pool=pool,
        queries=queries,
        example=problem,
        prompts="solve",
        fields={"rationales": False, "reply": REPLY},
        scorer=final_match,
        chance=CHANCE[subset],
        max_tokens=1024,  # chains of thought without shots are long: a limit bends the curve
        stop=("\n---", "\nProblem:"),
    )
