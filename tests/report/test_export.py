"""Exports: the same records in every form, whole numbers whole, in memory that does not grow."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.models.base import Answer, Usage
from icl_harness.prompts.tree import Node, Prompt, Query, Shot
from icl_harness.report.export import FORMS, export
from icl_harness.store.records import Cell, Record, RunStore

HEADER = {"spec": {}, "data": {}, "wording": {}, "scoring": {}, "tasks": {}, "weights": {}}


def cell(shots: int, draw: int = 0) -> Cell:
    return Cell(task="t", model="m", mode="supervised", variant="default", shots=shots, draw=draw)


def make_run(path: Path, n_shots: int, n_queries: int, n_draws: int = 1) -> Path:
    store = RunStore.create_or_resume(path, HEADER)
    ids = [f"test{i}" for i in range(n_queries)]
    examples = [Example(id=id, input=f"in,\n{id}", target="a", choices=("a", "b")) for id in ids]
    store.add_queries("t", "default", examples)
    for draw in range(n_draws):
        node = Node(f"preamble {draw}\n")
        for k in range(n_shots):
            node = node.child(f"shot {k}\n", Shot(id=f"train-number-{k}", input="x", target="y"))
        records = []
        for i, id in enumerate(ids):
            usage = Usage(prompt_tokens=5 if i % 2 else None, cost_usd=0.1)
            answer = Answer(query_id=id, text=" é", usage=usage)
            prompt = Prompt(node, Query(id=id, text=f"{id}?"))
            records.append(Record(prompt=prompt, answer=answer, parsed="é", score=1.0))
        store.add(cell(n_shots, draw), records)
    store.close()
    return path


def exported(path: Path, form: str, *, shot_ids: bool = False) -> bytes:
    file = io.BytesIO()
    export(RunStore.open(path), form, file, shot_ids=shot_ids)
    return file.getvalue()


def read(form: str, data: bytes) -> pd.DataFrame:
    if form == "parquet":
        return pd.read_parquet(io.BytesIO(data))
    if form == "csv":
        return pd.read_csv(io.BytesIO(data), dtype={"prompt_tokens": "Int64"})
    return pd.DataFrame([json.loads(line) for line in data.decode().splitlines()])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_records_with_their_gold_answers(tmp_path: Path, form: str) -> None:
    path = make_run(tmp_path / "run", 3, 4)
    frame = read(form, exported(path, form))
    expected = RunStore.open(path).records()
    assert list(frame.columns) == list(expected.columns)
    for name in ("query_id", "input", "target", "answer", "parsed", "score", "node_hash"):
        assert frame[name].tolist() == expected[name].tolist()
    assert frame["prompt_tokens"].dropna().tolist() == [5, 5]
    choices = frame["choices"].tolist()
    assert choices == [["a", "b"] if form == "jsonl" else '["a", "b"]'] * 4


@pytest.mark.parametrize("form", FORMS)
def test_shot_ids_are_a_column_where_they_are_asked_for(tmp_path: Path, form: str) -> None:
    path = make_run(tmp_path / "run", 3, 2)
    found = read(form, exported(path, form, shot_ids=True))["shot_ids"].tolist()
    lists = [json.loads(ids) if form == "csv" else list(ids) for ids in found]
    assert lists == [["train-number-0", "train-number-1", "train-number-2"]] * 2


def test_whole_numbers_stay_whole_beside_missing_ones(tmp_path: Path) -> None:
    text = exported(make_run(tmp_path / "run", 0, 2), "csv").decode()
    assert "5.0" not in text


def test_an_unknown_form_is_one_line_with_the_known_ones(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 0, 1)
    with pytest.raises(SpecError, match=r"unknown format 'jsn'\. Nearest: json"):
        exported(path, "jsn")


PEAK = """
import io, resource, sys
from pathlib import Path
import icl_harness, pandas, pyarrow.parquet
from icl_harness.report.export import export
from icl_harness.store.records import RunStore

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

path, before = Path(sys.argv[1]), peak()
if sys.argv[2] == "records":
    assert len(icl_harness.Run(path).records()) == 4_000
else:
    with open("/dev/null", "wb") as file:
        export(RunStore.open(path), sys.argv[2], file, shot_ids=True)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["records", "csv", "jsonl", "parquet"])
def test_4_000_records_at_1024_shots_take_little_memory(
    tmp_path_factory: pytest.TempPathFactory, what: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "large"
    if not path.exists():
        make_run(path, 1024, 2000, n_draws=2)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), what], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 60, "MB above the imports; a text of ids a record is 80 MB"
