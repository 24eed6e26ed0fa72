"""What does a question ask for? 6 coarse classes, or 50 with trec:fine (Li and Roth 2002).

5,452 pool questions, 500 queries: the published train and test split. 11 of the pool's questions
are queries too (but for case and punctuation); these are left out. trec:bertsch and
trec:fine:bertsch ask the 250 test questions of Bertsch et al. 2024.
"""

from icl_harness import Example, Row, Task, bertsch_rows, hub, label_match, task

COARSE = {
    "ABBR": "abbreviation", "DESC": "description", "ENTY": "entity",
    "HUM": "human", "LOC": "location", "NUM": "number",
}  # fmt: skip
FINE = """
ABBR:abb ABBR:exp DESC:def DESC:desc DESC:manner DESC:reason ENTY:animal ENTY:body ENTY:color
ENTY:cremat ENTY:currency ENTY:dismed ENTY:event ENTY:food ENTY:instru ENTY:lang ENTY:letter
ENTY:other ENTY:plant ENTY:product ENTY:religion ENTY:sport ENTY:substance ENTY:symbol
ENTY:techmeth ENTY:termeq ENTY:veh ENTY:word HUM:desc HUM:gr HUM:ind HUM:title LOC:city
LOC:country LOC:mount LOC:other LOC:state NUM:code NUM:count NUM:date NUM:dist NUM:money NUM:ord
NUM:other NUM:perc NUM:period NUM:speed NUM:temp NUM:volsize NUM:weight
"""


def coarse(row: Row) -> Example:
    label = row.first("coarse_label", "label_coarse_original")
    return Example(id=row["id"], input=row["text"], target=COARSE[label])


def fine(row: Row) -> Example:
    return Example(
        id=row["id"], input=row["text"], target=row.first("fine_label", "label_original")
    )


@task(subsets=("coarse", "fine", "bertsch", "fine:bertsch"), groups={"all": ("coarse", "fine")})
def trec(subset: str) -> Task:
    labels = "fine" if subset.startswith("fine") else "coarse"
    only = bertsch_rows("trec") if subset.endswith("bertsch") else None
    return Task(
        pool=hub("SetFit/TREC-QC", split="train"),
        queries=hub("SetFit/TREC-QC", split="test", only=only),
        example=coarse if labels == "coarse" else fine,
        prompts="classify",
        fields={
            "instruction": "Say what kind of thing a question asks for.",
            "asked": "Question",
            "answer": "Kind",
        },
        labels=tuple(COARSE.values()) if labels == "coarse" else tuple(FINE.split()),
        scorer=label_match,
        leaks="drop",
    )
