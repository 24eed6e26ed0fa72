"""Tasks of lm-eval: prompts and scores are those of lm-eval's own evaluation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

import icl_harness
from icl_harness import Answer, Model, Node, Query, Sampling
from icl_harness.errors import IclError
from icl_harness.report.run import find_record
from icl_harness.tasks.loading import find_tasks
from tests.tasks.harnesses.lm_eval_files import WORDS, write_data, write_tasks
from tests.tiny_models import save_tiny_model

pytest.importorskip("lm_eval", reason="needs lm-eval: pip install 'icl-harness[lm-eval]'")

K = 5  # shots


def hashed_nats(prompt: str, written: str) -> float:
    digest = hashlib.sha256(f"{prompt}|{written}".encode()).digest()
    return -8 * int.from_bytes(digest[:4], "big") / 2**32


def written_for(prompt: str) -> str:
    """An answer that is sometimes right, and sometimes in a form that one filter alone reads."""
    number = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    story = re.search(r"In \w+ (\d+) they saw the \w+ before$", prompt)
    if story and number % 2:
        return f" {WORDS[-int(story[1])]}. Then"
    day = re.search(r"day (\d+):( ?)$", prompt)
    if day and number % 2:
        return ("" if day[2] else " and ") + WORDS[int(day[1])]
    asked = prompt.rpartition("What is ")[2]
    total = sum(int(word) for word in asked.split() if word.isdigit())
    forms = (
        f" It is #### {total}\nQuestion: And", f" I say {total}.", f"\n{total}", " rain",
        "rain all", " True", "the answer is True. Q", " wind. More",
    )  # fmt: skip
    return forms[number % len(forms)]


class Told(Model):
    """A back end whose likelihoods are hashes of all that stands before, and its texts too."""

    gold_likelihood = "weighed"

    def __init__(self) -> None:
        self.id = "told"
        self.prompts: dict[str, set[str]] = {}

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        for query in queries:
            prompt = node.text + query.tail
            if sampling.scoring == "generate":
                self.prompts.setdefault(prompt, set())
                text = written_for(prompt)
                for stop in sampling.stop:
                    text = text.split(stop)[0] if not text.startswith(stop) else text
                yield [Answer(query_id=query.id, sample=query.sample, text=text)]
                continue
            self.prompts.setdefault(prompt, set()).update(query.continuations)
            pairs = zip(query.choices, query.continuations, strict=True)
            nats = {choice: hashed_nats(prompt, written) for choice, written in pairs}
            best = max(nats, key=nats.__getitem__)
            yield [Answer(query_id=query.id, text=best, logprobs=nats)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm-eval")
    write_data(folder / "data")
    write_tasks(folder / "own", folder / "data")
    return folder


def theirs(name: str, place: Path, shots: Sequence[str], asked: Sequence[str]) -> Any:
    """What lm-eval itself makes of a task: its results and the prompts of `asked`, each behind
    `shots`.
    """
    from lm_eval.api.model import LM
    from lm_eval.api.samplers import FirstNSampler
    from lm_eval.evaluator import evaluate

    from icl_harness.tasks.harnesses.lm_eval_files import lm_eval_tasks

    prompts: dict[str, set[str]] = {}

    class TheirTold(LM):
        def loglikelihood(self, requests: Any) -> Any:
            for prompt, written in (request.args for request in requests):
                prompts.setdefault(prompt, set()).add(written)
            pairs = [request.args for request in requests]
            return [
                (hashed_nats(*pair), written_for(pair[0]).startswith(pair[1])) for pair in pairs
            ]

        def generate_until(self, requests: Any) -> Any:
            found = []
            for prompt, how in (request.args for request in requests):
                prompts.setdefault(prompt, set())
                text = written_for(prompt)
                for stop in how["until"]:
                    text = text.split(stop)[0]
                found.append(text)
            return found

        def loglikelihood_rolling(self, requests: Any) -> Any:
            raise NotImplementedError

    (leaf, task), *_ = lm_eval_tasks(name.removeprefix("lm-eval:"), place / "data").items()
    docs = list(task.fewshot_docs())
    task.sampler = FirstNSampler([docs[int(id.rpartition("-")[2])] for id in shots])
    task.set_config("num_fewshot", len(shots))
    numbers = sorted(int(id.rpartition("-")[2]) for id in asked)
    found = evaluate(
        TheirTold(), {"tasks": {leaf: task}}, samples={leaf: numbers}, bootstrap_iters=0
    )
    return found["results"][leaf], prompts


TASKS = [
    ("gsm8k", "", "exact_match,strict-match"),
    ("gsm8k:flexible-extract", "", "exact_match,flexible-extract"),
    ("sst2", "", "acc,none"),
    ("bbh_cot_fewshot_boolean_expressions", "", "exact_match,get-answer"),
    ("own/own_choices.yaml", "choices", "acc,none"),
    ("own/own_choices.yaml:acc_norm", "choices-per-character", "acc_norm,none"),
    ("own/own_choices.yaml:acc_bytes", "choices-per-byte", "acc_bytes,none"),
    ("own/own_letters.yaml", "choices", "acc,none"),
    ("own/own_correlation.yaml", "choices", "mcc,none"),
    ("own/own_overlap.yaml", "", "overlap,none"),
    ("own/own_texts.yaml", "", "exact_match,none"),
    ("own/own_likelihood.yaml", "", "acc,none"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scoring", "metric"), TASKS)
def test_prompts_and_scores_are_lm_evals(
    name: str, scoring: str, metric: str, place: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    model = Told()
    k = 3 if "bbh" in name else K
    how: Any = {"data": str(place / "data"), "out": tmp_path / "run", "draws": 1}
    done = icl_harness.run(f"lm-eval:{name}", model, shots=[0, k], **how)
    records = done.records(shot_ids=True)
    n_spread = 0
    bare = name.rpartition(":")[0] if ":" in name else name
    ours: set[str] = set()
    for shots in (0, k):
        cell = records[records["shots"] == shots]
        ids = list(cell["shot_ids"].iloc[0]) if shots else []
        results, prompts = theirs(bare, place, ids, cell["query_id"])
        value = done.curves().set_index("shots").loc[shots, "value"]
        assert value == pytest.approx(results[metric], abs=1e-9)
        assert {p: model.prompts[p] for p in prompts if "likelihood" not in name} == {
            p: written for p, written in prompts.items() if "likelihood" not in name
        }
        assert prompts.keys() <= model.prompts.keys()
        ours |= prompts.keys()
        n_spread += 0 < value < 1
    assert ours == model.prompts.keys()
    assert n_spread or "bbh" in name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_choices", "own_likelihood"])
def test_likelihoods_are_those_of_lm_evals_own_models(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    monkeypatch.chdir(place)
    save_tiny_model(tmp_path / "model", "llama", "byte_bpe")
    is_gold = {"own_likelihood": {"gold_nll": True}}.get(name, {})
    done = icl_harness.run(
        f"lm-eval:own/{name}.yaml", f"hf/{tmp_path / 'model'}", shots=[0, K], draws=1,
        out=tmp_path / "run", **is_gold,
    )  # fmt: skip
    theirs_model = HFLM(pretrained=str(tmp_path / "model"), device="cpu", dtype="float32")
    task = find_tasks(f"lm-eval:own/{name}.yaml")[0]
    checked = 0
    for row in done.records().to_dict("records"):
        cell = {"shots": row["shots"], "draw": 0, "mode": "supervised"}
        prompt = str(find_record(done.path, row["query_id"], cell)[0].text)
        pair = (prompt, task.fields["before_choice"] + row["target"])
        request = Instance("loglikelihood", {}, pair, 0)
        ((nats, _),) = theirs_model.loglikelihood([request], disable_tqdm=True)
        assert -row["gold_nll"] == pytest.approx(nats, abs=1e-3)
        checked += 1
    assert checked == 20


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gsmk8", "Nearest: gsm8k"), ("own/none.yaml", "no such file"),
        ("gsm8k:strict", "Nearest: strict-match"), ("own/own_choices.yaml:f1", "no metric 'f1'"),
        ("arc_easy", "ai2_arc/ARC-Easy"), ("", "names no task"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_in_one_line(
    name: str, what: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(IclError, match=what) as error:
        find_tasks(f"lm-eval:{name}", place / "data")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_group_is_its_tasks_and_another_configuration_does_not_resume(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    how: dict[str, Any] = {"shots": [0, 2], "draws": 1, "out": tmp_path / "run"}
    how["data"] = str(place / "data")
    names = [task.name for task in find_tasks("lm-eval:own/group.yaml", place / "data")]
    assert names == ["lm-eval:bbh_zeroshot_navigate", "lm-eval:own_choices"]
    icl_harness.run("lm-eval:own/own_overlap.yaml", Told(), **how)
    assert icl_harness.rescore(tmp_path / "run").n_changed == 0
    file = place / "own/own_overlap.yaml"
    text = file.read_text()
    try:
        file.write_text(text.replace("{{ask}}:", "{{ask}} -"))
        with pytest.raises(IclError, match="other data of lm-eval:own_overlap"):
            icl_harness.run("lm-eval:own/own_overlap.yaml", Told(), **how)
    finally:
        file.write_text(text)
