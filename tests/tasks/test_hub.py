"""The hub path: `datasets` against a loopback hub that serves the real files as the hub's copies
lay them out.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.conftest import SHARED as SHARED_ROOT
from tests.loopback_hub import LoopbackHub, serving

SHARED = SHARED_ROOT / "data"
BBH = "word_sorting"

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real files are not here (../shared/data)"
)

# Each process reads HF_ENDPOINT when it first imports huggingface_hub: so the loading happens in
# one of its own.
LOAD = """
import json, sys, warnings
warnings.simplefilter("error", append=True)
from pathlib import Path
from icl_harness.errors import IclError
from icl_harness.tasks.loading import find_tasks, load_examples
data = Path(sys.argv[1]) if sys.argv[1] else None
out = {}
for name in sys.argv[2:]:
    try:
        found = load_examples(find_tasks(name)[0], data=data)
        out[name] = {"hashes": [found.pool_hash, found.queries_hash]}
        for side in ("pool", "queries"):
            examples = getattr(found, side)
            out[name][side] = [(e.id, e.input, e.target, e.rationale) for e in examples]
    except IclError as error:
        out[name] = {"error": str(error), "code": error.exit_code}
print(json.dumps(out))
"""


def load(
    names: list[str], *, data: Path | None = None, cwd: Path = ROOT, **env: str
) -> dict[str, Any]:
    """Load tasks in a fresh process; HF_HOME and HF_ENDPOINT come with `env`."""
    clean = {k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "ICL_"))}
    command = [sys.executable, "-c", LOAD, str(data or ""), *names]
    done = subprocess.run(
        command,
        env=clean | {"NO_PROXY": "*", "PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Retry" not in done.stderr  # nobody waits for a hub that does not answer
    return json.loads(done.stdout.splitlines()[-1])


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def parquet(rows: list[dict[str, Any]], labels: dict[str, list[str]] | None = None) -> bytes:
    """Rows as the hub's parquet, class columns as ids with their names in the features."""
    import datasets

    ids = {
        column: {name: i for i, name in enumerate(names)}
        for column, names in (labels or {}).items()
    }
    features = datasets.Features(
        {
            c: datasets.ClassLabel(names=labels[c])
            if labels and c in labels
            else datasets.Value("string")
            for c in rows[0]
        }
    )
    coded = [{c: ids[c][v] if c in ids else v for c, v in row.items()} for row in rows]
    buffer = BytesIO()
    datasets.Dataset.from_list(coded, features=features).to_parquet(buffer)
    return buffer.getvalue()


def card(configs: dict[str, dict[str, str]]) -> bytes:
    """A data set card: config -> split -> path of its files."""
    listed = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": path} for split, path in splits.items()],
        }
        for name, splits in configs.items()
    ]
    return f"---\n{json.dumps({'configs': listed})}\n---\n".encode()


def trec_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of SetFit/TREC-QC: the file's two labels under other names, beside ids and descriptions
    of them.
    """
    kept = {
        "text": row["text"],
        "label_original": row["fine_label"],
        "label_coarse_original": row["coarse_label"],
    }
    return {**kept, "label": 0, "label_text": "-", "label_coarse": 0, "label_coarse_text": "-"}


def repositories() -> dict[tuple[str, str], dict[str, bytes]]:
    """The hub copies of the sets, in the layouts that ../shared/data/README.md and their hub pages
    describe.
    """
    files: dict[tuple[str, str], dict[str, bytes]] = {}
    gsm8k = {s: parquet(jsonl(SHARED / f"gsm8k/{s}.jsonl")) for s in ("train", "test")}
    files["openai/gsm8k", "main"] = {
        "README.md": card({"main": {"train": "main/train-*", "test": "main/test-*"}}),
        **{f"main/{s}-00000-of-00001.parquet": content for s, content in gsm8k.items()},
    }

    banking = {}
    for split in ("train", "test"):
        with (SHARED / f"banking77/{split}.csv").open(newline="", encoding="utf-8") as stream:
            banking[split] = [
                {"text": r["text"], "label": r["category"]} for r in csv.DictReader(stream)
            ]
    # The hub's own order of ids, which is not that of any file here.
    names = sorted({row["label"] for row in banking["train"]}, key=str.casefold)
    files["legacy-datasets/banking77", "main"] = {
        "README.md": card({"default": {"train": "data/train-*", "test": "data/test-*"}}),
        **{
            f"data/{s}-00000-of-00001.parquet": parquet(rows, {"label": names})
            for s, rows in banking.items()
        },
    }

    files["SetFit/TREC-QC", "main"] = {"README.md": b"# TREC-QC\n"}
    for split in ("train", "test"):
        rows = [trec_row(row) for row in jsonl(SHARED / f"trec/{split}.jsonl")]
        files["SetFit/TREC-QC", "main"][f"{split}.jsonl"] = "".join(
            json.dumps(row) + "\n" for row in rows
        ).encode()

    problems = [
        {c: r[c] for c in ("input", "target")} for r in jsonl(SHARED / f"bbh/tasks/{BBH}.jsonl")
    ]
    files["SaylorTwift/bbh", "main"] = {
        "README.md": card({name: {"test": f"{name}/test-*"} for name in (BBH, "navigate")}),
        f"{BBH}/test-00000-of-00001.parquet": parquet(problems),
        "navigate/test-00000-of-00001.parquet": parquet([{"input": "a", "target": "Yes"}]),
    }

    # The hub's converter makes a branch without a card: one folder for each config.
    files["takala/financial_phrasebank", "main"] = {
        "README.md": b"# Financial PhraseBank\n", "financial_phrasebank.py": b"raise SystemExit\n",
    }  # fmt: skip
    files["takala/financial_phrasebank", "refs/convert/parquet"] = {
        f"sentences_{agree}/train/0000.parquet": parquet(
            jsonl(SHARED / f"financial_phrasebank/sentences_{agree}.jsonl"),
            {"label": ["negative", "neutral", "positive"]},
        )
        for agree in ("allagree", "75agree")
    }
    return files


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with serving(repositories()) as server:
        yield server


TASKS = ["gsm8k", "banking77", "trec", "trec:fine", f"bbh:{BBH}", "sentiment", "sentiment:75agree"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hf")


@pytest.fixture(scope="module")
def from_hub(hub: LoopbackHub, home: Path) -> dict[str, Any]:
    return load(TASKS, HF_ENDPOINT=hub.endpoint, HF_HOME=str(home))


@pytest.fixture(scope="module")
def from_files(home: Path) -> dict[str, Any]:
    return load(TASKS, data=SHARED, HF_HOME=str(home))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_hub_gives_the_same_examples_as_the_files(
    from_hub: dict[str, Any], from_files: dict[str, Any], task: str
) -> None:
    assert "error" not in from_hub[task], from_hub[task]
    assert from_hub[task]["pool"] == from_files[task]["pool"]
    assert from_hub[task]["queries"] == from_files[task]["queries"]
    assert from_hub[task]["hashes"] == from_files[task]["hashes"]


@pytest.mark.slow
def test_what_was_loaded_once_is_read_again_without_the_hub(
    from_hub: dict[str, Any], home: Path
) -> None:
    again = load(["gsm8k"], HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(home))
    assert again["gsm8k"]["hashes"] == from_hub["gsm8k"]["hashes"]


@pytest.mark.slow
def test_without_the_hub_the_error_comes_at_once_and_names_the_remedy(tmp_path: Path) -> None:
    said = load(["banking77"], HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))["banking77"]
    assert said["code"] == 2
    assert "\n" not in said["error"]
    assert "legacy-datasets/banking77" in said["error"]
    assert "--data DIR" in said["error"]


@pytest.mark.slow
def test_a_set_or_a_subset_that_the_hub_does_not_have_is_one_line(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    said = load(
        ["bbh:snarks", "sentiment:50agree"], HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path)
    )
    for name, text in (
        ("bbh:snarks", "SaylorTwift/bbh snarks"),
        ("sentiment:50agree", "sentences_50agree"),
    ):
        assert said[name]["code"] == 2
        assert text in said[name]["error"]
        assert "\n" not in said[name]["error"]
        assert "--data DIR" in said[name]["error"]
    empty = load(["trec"], HF_ENDPOINT=hub.endpoint + "/nothing", HF_HOME=str(tmp_path))["trec"]
    assert "SetFit/TREC-QC" in empty["error"]
