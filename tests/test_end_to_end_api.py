"""Real data through the whole engine against the loopback server: one grid, four SDKs, and a bank
of attempts.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.tasks.loading import find_tasks, load_examples
from tests.models.api.apis import CLASSES, KEY, every_sdk
from tests.servers import LoopbackServer
from tests.test_end_to_end import TASKS, command_line, read_csv

pytestmark = pytest.mark.slow

GRID = {"modes": ["supervised", "unsupervised"], "shots": [0, 2, 8], "draws": 2, "queries": 4}
OPTIONS = (
    "--modes",
    "supervised,unsupervised",
    "--shots",
    "0,2,8",
    "--draws",
    "2",
    "--queries",
    "4",
)
N_RECORDS = len(TASKS) * 2 * 3 * 2 * 4
SAME = [
    "task",
    "mode",
    "shots",
    "draw",
    "query_id",
    "shots_used",
    "node_hash",
    "status",
    "answer",
]
SAME += ["parsed", "score", "reused", "prompt_tokens"]


@pytest.fixture
def icl(tmp_path, monkeypatch, capfd):
    """The command line in an empty directory, with a key for every provider."""
    for cls in CLASSES.values():
        for name in (*cls.service.key_names, cls.service.base_url_name):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(cls.service.key_names[0], KEY)
    return command_line(tmp_path, monkeypatch, capfd)


def question(prompt: str) -> tuple[str, str]:
    """Return the name and the text of what a prompt asks: its last "Message: …", "Question: …" or
    "Problem: …".
    """
    *_, asked, rest = re.split(r"^(Message|Question|Problem): ", prompt, flags=re.MULTILINE)
    return asked, rest.rpartition("\n")[0]


class Oracle:
    """A model that knows all answers; the prompt's hash decides whether it tells the right one."""

    def __init__(self, data: Path) -> None:
        found = {name: load_examples(find_tasks(name)[0], data=data) for name in TASKS}
        self.gold = {
            (name, e.input): e.target
            for name, one in found.items()
            for e in (*one.pool, *one.queries)
        }

    def fate(self, prompt: str) -> str:
        return ("right", "right", "wrong", "unparsed")[
            hashlib.sha256(prompt.encode()).digest()[0] % 4
        ]

    def __call__(self, prompt: str) -> str:
        asked, text = question(prompt)
        fate, name = (
            self.fate(prompt),
            {"Message": "banking77", "Question": "trec", "Problem": "gsm8k"}[asked],
        )
        answer, labels = (
            self.gold[name, text],
            {"banking77": ["age_limit", "atm_support"], "trec": ["human", "number"]},
        )
        if fate == "unparsed":
            return " I cannot tell."
        if fate == "wrong":
            answer = (
                "987654321"
                if name == "gsm8k"
                else next(label for label in labels[name] if label != answer)
            )
        if name == "gsm8k":
            return f" Step by step.\nThe final answer is {answer}.\n---\nProblem: one more"
        return f" {answer}\n\n{asked}: one more"


@pytest.fixture(scope="module")
def oracle(shared_data: Path) -> Oracle:
    return Oracle(shared_data)


@pytest.fixture(scope="module")
def expected(oracle: Oracle, shared_data: Path, tmp_path_factory) -> icl_harness.Run:
    """The grid answered by the oracle itself, without a server."""
    model = ScriptedModel(lambda prompt: oracle(prompt.text))
    return icl_harness.run(
        TASKS, model, out=tmp_path_factory.mktemp("expected") / "out", data=str(shared_data), **GRID
    )


@every_sdk
def test_the_grid_gives_the_same_through_every_sdk(
    icl, oracle, expected, shared_data, sdk: str
) -> None:
    provider = CLASSES[sdk].service.provider
    with LoopbackServer(oracle) as server:
        code, out, err = icl(
            "run", *TASKS, "--data", str(shared_data), "--model", f"{provider}/some-model",
            *OPTIONS, "--out", "out", "--base-url", server.base_url(provider),
            *(["--model-arg", "sdk=legacy"] if sdk == "legacy" else []),
        )  # fmt: skip
    assert (code, err) == (0, "")
    records = icl_harness.Run("out").records()
    assert len(records) == N_RECORDS
    assert (records["status"] == "ok").all()
    pd.testing.assert_frame_equal(records[SAME], expected.records()[SAME])
    asked = records[~records["reused"].astype(bool)]
    assert len(server.requests) == len(asked) < len(records)
    fates = Counter(oracle.fate(request.prompt) for request in server.requests)
    assert (asked["score"] == 1).sum() == fates["right"] > 0
    assert asked["parsed"].isna().sum() == fates["unparsed"] > 0
    assert (records["prompt_tokens"] > 0).all()
    assert (records["completion_tokens"] > 0).all()
    told, wanted = read_csv(Path("out/curves.csv")), expected.curves()
    for column in ("value", "ci_low", "ci_high"):
        assert told[column].tolist() == pytest.approx(wanted[column].tolist(), abs=1e-6)
    assert told["n_unparsed"].tolist() == wanted["n_unparsed"].tolist()
    assert f"{provider}/some-model" in out
    assert not [p for p in Path("out").iterdir() if KEY.encode() in p.read_bytes()]


def test_the_grid_goes_on_after_failures(icl, oracle, expected, shared_data) -> None:
    """The first six requests fail for good; the same command asks what they were to tell, and
    nothing else.
    """
    with LoopbackServer(oracle) as server:
        command = [
            "run", "trec", "--data", str(shared_data), "--model", "openai/some-model", *OPTIONS,
            "--out", "out", "--base-url", server.base_url("openai"),
        ]  # fmt: skip
        server.fail_next(*["invalid"] * 6)
        code, out, _ = icl(*command)
        assert code == 1
        assert re.search(
            r"requests failed \(400 .*Invalid value\) and are missing; the same command sends", out
        )
        n_first, failed = (
            len(server.requests),
            icl_harness.Run("out").records()["status"] == "failed",
        )
        assert read_csv(Path("out/curves.csv"))["n_failed"].sum() == failed.sum() == 6
        assert icl(*command)[0] == 0
    records = icl_harness.Run("out").records()
    columns = [name for name in SAME if name != "reused"]
    wanted = expected.records().query("task == 'trec'").reset_index(drop=True)
    pd.testing.assert_frame_equal(records[columns], wanted[columns])
    assert len(server.requests) - n_first <= 6


class Learner:
    """Of the pool's problems, in order of arrival, it solves every third, every third at the third
    try, others never.

    In words of its own. It is right about every query.
    """

    def __init__(self, oracle: Oracle, pool: set[str]) -> None:
        self.oracle = oracle
        self.tries = dict.fromkeys(pool, 0)
        self.kinds: dict[str, int] = {}
        self.lock = threading.Lock()

    def __call__(self, prompt: str) -> str:
        text = question(prompt)[1]
        gold = self.oracle.gold["gsm8k", text]
        if text not in self.tries:
            return f" The final answer is {gold}."
        with self.lock:
            kind = self.kinds.setdefault(text, len(self.kinds) % 3)
            self.tries[text] += 1
            solved = kind == 0 or (kind == 1 and self.tries[text] == 3)
            words = f" I reckon on my fingers, try {self.tries[text]}."
        return f"{words}\nThe final answer is {gold if solved else '987654321'}."


def test_reinforced_mode_keeps_every_attempt_and_shows_the_model_its_own_words(
    icl, oracle, shared_data
) -> None:
    pool = load_examples(find_tasks("gsm8k")[0], data=shared_data).pool
    with LoopbackServer(Learner(oracle, {e.input for e in pool})) as server:
        code, out, _ = icl(
            "run", "gsm8k", "--data", str(shared_data), "--model", "openai/some-model", "--modes",
            "reinforced",
            "--base-url", server.base_url("openai"), "--pool", "12", "--shots", "0,4,12", "--draws",
            "1", "--queries", "5", "--out", "out",
        )  # fmt: skip
    assert code == 0
    assert ": 8 of 12 solved" in out
    assert re.search(r"^shots +8 of 12 solved *$", out, re.MULTILINE), (
        "the table's column says so, too"
    )
    assert "gsm8k openai/some-model reinforced default 12 shots: 8 shots used" in out
    [file] = Path("out").glob("banks/*.jsonl")
    attempts = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({(a["id"], a["sample"]) for a in attempts}) == len(attempts) == 12 * 4
    assert {a["reward"] for a in attempts} == {0.0, 1.0}
    assert all(("987654321" in a["answer"]) == (a["reward"] == 0) for a in attempts)
    kept = {a["id"]: a["answer"] for a in attempts if a["kept"]}
    assert len(kept) == sum(a["kept"] for a in attempts) == 8
    assert all(a["reward"] == 1 for a in attempts if a["kept"])
    solved_at = Counter(a["id"] for a in attempts if a["reward"] == 1)
    assert sorted(solved_at.values()) == [1] * 4 + [4] * 4
    assert len(server.requests) == 12 * 4 + 3 * 5
    assert {request.body["temperature"] for request in server.requests[:48]} == {1.0}
    rationales = {e.id: e.rationale for e in pool}
    records = icl_harness.Run("out").records()
    assert records.groupby("shots")["shots_used"].first().to_dict() == {0: 0, 4: 4, 12: 8}
    full = [
        request.prompt for request in server.requests if request.prompt.count("Problem: ") == 1 + 8
    ]
    assert len(full) == 5
    for prompt in full:
        assert all(words.strip() in prompt for words in kept.values())
        assert not any(rationales[i].strip() in prompt for i in kept)
        assert prompt.count("\nThe final answer is") == 8, (
            "the words end in the sentence by themselves"
        )
    again = icl_harness.run(
        "gsm8k", ScriptedModel(lambda p: "1"), out="again", data=str(shared_data),
        modes=["reinforced"], pool=12, shots=[4], draws=1, queries=1, bank="out",
    )  # fmt: skip
    assert set(again.records(shot_ids=True)["shot_ids"].iloc[0]) <= set(kept), (
        "another model takes the bank of this run"
    )
