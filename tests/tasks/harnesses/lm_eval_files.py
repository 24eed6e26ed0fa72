"""Tasks of lm-eval of all kinds, with a few made-up rows each, as files in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = ("rain", "wind", "sun", "snow", "fog", "hail", "storm", "frost", "dew", "cloud")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sums(split: str, n: int) -> list[dict[str, Any]]:
    start = 0 if split == "train" else 100
    return [
        {
            "question": f"What is {start + i} and {i + 2} together?",
            "answer": f"{start + i} + {i + 2} makes it.\n#### {start + 2 * i + 2}",
        }
        for i in range(n)
    ]


def sentences(split: str, n: int) -> list[dict[str, Any]]:
    return [
        {"sentence": f"{split} {WORDS[i]} is {('dreadful', 'lovely')[i % 2]} ", "label": i % 2}
        for i in range(n)
    ]


def weather(split: str, n: int) -> list[dict[str, Any]]:
    """Rows of four choices, some not of ASCII, their number in `gold`."""
    rows = []
    for i in range(n):
        choices = [f"{WORDS[(i + j) % 10]}{'é' * (j == 2)}{' all day' * (j % 2)}" for j in range(4)]
        rows.append({"ask": f"{split} day {i}", "choices": choices, "gold": (3 * i) % 4})
    return rows


def stories(split: str, n: int) -> list[dict[str, Any]]:
    return [
        {"text": f"In {split} {i} they saw the {WORDS[i]} before {WORDS[-i]}"} for i in range(n)
    ]


def boolean(split: str, n: int) -> list[dict[str, Any]]:
    return [{"input": f"not {i} is", "target": str(i % 3 == 0)} for i in range(n)]


MAKERS = {
    "gsm8k": sums,
    "sst2": sentences,
    "weather": weather,
    "stories": stories,
    "bbh/boolean_expressions": boolean,
    "bbh/navigate": boolean,
}


def write_data(data: Path, n: int = 10) -> None:
    """Write rows where the folder of --data has them."""
    for folder, make in MAKERS.items():
        for split in ("train", "validation", "test"):
            write_rows(data / folder / f"{split}.jsonl", make(split, n))


def write_tasks(folder: Path, data: Path) -> None:
    """Write task files of one's own, whose rows are local files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "utils.py").write_text(UTILS)
    for name, config in OWN.items():
        rows = config.pop("rows", "weather")
        files = {split: str(data / rows / f"{split}.jsonl") for split in ("train", "test")}
        own = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
            **config,
        }
        text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True)
        text = text.replace("'!function ", "!function ").replace("utils.words'", "utils.words")
        (folder / f"{name}.yaml").write_text(text)
        config["rows"] = rows
    group = {"group": "my_bbh", "task": ["bbh_zeroshot_navigate", "own_choices"]}
    (folder / "group.yaml").write_text(yaml.safe_dump(group))


UTILS = """
def words(doc, results):
    said, wanted = set(results[0].split()), set(doc["choices"][0].split())
    return {"overlap": len(said & wanted) / len(wanted), "length": len(results[0])}
"""

OWN: dict[str, dict[str, Any]] = {
    # choices of each document, a description, no space before a choice
    "own_choices": {
        "training_split": "train",
        "output_type": "multiple_choice",
        "description": "Weather — choose.\n",
        "doc_to_text": "{{ask}} →",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "target_delimiter": "\n",
        "fewshot_delimiter": "\n##\n",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}],
    },
    # letters, of which two are right; shots are worded otherwise
    "own_letters": {
        "training_split": "train",
        "output_type": "multiple_choice",
        "doc_to_text": "{{ask}}{% for c in choices %}\n{{'ABCD'[loop.index0]}}. {{c}}{% endfor %}",
        "doc_to_target": "{{[gold, (gold + 1) % 4]}}",
        "doc_to_choice": ["A", "B", "C", "D"],
        "gen_prefix": "Answer:",
        "fewshot_config": {
            "doc_to_text": "Solved: {{ask}} ",
            "doc_to_target": "{{'ABCD'[gold]}}",
            "gen_prefix": "It is",
        },
        "metric_list": [{"metric": "acc"}],
    },
    "own_correlation": {
        "rows": "sst2",
        "training_split": "train",
        "output_type": "multiple_choice",
        "doc_to_text": "{{sentence}}?",
        "doc_to_target": "{{['no', 'yes'][label]}}",
        "doc_to_choice": ["no", "yes"],
        "metric_list": [{"metric": "mcc"}],
    },
    "own_likelihood": {
        "rows": "stories",
        "training_split": "train",
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    # a metric of one's own, shots out of the questions themselves
    "own_overlap": {
        "output_type": "generate_until",
        "doc_to_text": "{{ask}}:",
        "doc_to_target": "{{choices[0]}}",
        "process_results": "!function utils.words",
        "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 12},
        "metric_list": [{"metric": "overlap", "aggregation": "mean", "higher_is_better": True}],
    },
    # several right texts
    "own_texts": {
        "training_split": "train",
        "output_type": "generate_until",
        "doc_to_text": "{{ask}}: ",
        "doc_to_target": "choices",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}
