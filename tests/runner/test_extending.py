"""An extended run is the run that the larger grid would have been, and keeps what it had."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness import Prompt, ScriptedModel
from icl_harness.cli import execute, extend
from icl_harness.cli.app import app
from icl_harness.errors import SpecError, StoreError
from icl_harness.report.run import Run
from icl_harness.store import header as headers
from icl_harness.store import records as stores
from icl_harness.store.extension import NUMBERS, grows, with_growth
from tests.api_runs import WIRES, plant_keys
from tests.conftest import parity
from tests.quick import QUICK
from tests.runner.test_walk import Listener, right
from tests.servers import LoopbackServer

SMALL: dict[str, Any] = {"modes": ["supervised"], "shots": [0, 4], "draws": 2, "queries": 5}
LARGER: list[dict[str, Any]] = [
    {"draws": 4},
    {"queries": 9},
    {"queries": 12},
    {"shots": [2]},
    {"shots": [1, 4, 8]},
    {"modes": ["unsupervised"]},
    {"variants": ["flipped", "noise=0.2"]},
    {"draws": 3, "queries": 8, "shots": [2, 16], "modes": ["reinforced"]},
    {},
]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch) -> None:
    """Leave out what these tests do not look at, which takes most of the time."""
    for module in (execute, extend):
        monkeypatch.setattr(module, "write_results", lambda run, frame: None)


def small(model: Any, out: str = "out", **options: Any) -> Run:
    return icl_harness.run("toy", model, out=out, data="data", **{**SMALL, **options})


def whole_grid(added: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The options of the larger grid, run at once."""
    before = {**SMALL, "variants": ["default"], **options}
    grid = {**before, **{key: added[key] for key in NUMBERS if key in added}}
    for key in ("shots", "modes", "variants"):
        new = [one for one in added.get(key, []) if one not in before[key]]
        grid[key] = [*before[key], *new]
    return grid


def answers(run: Run) -> pd.DataFrame:
    return run.records(shot_ids=True).drop(columns="latency_s")


def stored(run: Run) -> set[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(run.path / "records.db")) as db:
        return set(db.execute("SELECT * FROM records"))


def reply(prompt: Prompt) -> str:
    """Right for some problems, by its text alone, so that banks and scores are uneven."""
    number = int(prompt.query.input.split()[1])
    return right(prompt) if number % 3 else f" {parity(number + 1)}"


ALL = LARGER[-2]
CASES = [({}, added) for added in LARGER]
CASES += [({"temperature": 0.7}, {"samples": 3, "queries": 7})]
CASES += [({"temperature": 0.7}, ALL), ({"pool": 30}, ALL)]
CASES += [
    ({"modes": ["reinforced"], "bank_samples": 2}, added)
    for added in ({**ALL, "modes": ["unsupervised"]}, {"variants": ["bank", "flipped"]})
]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("options", "added"),
    CASES,
    ids=[f"{','.join(added)} to {','.join(options)}" for options, added in CASES],
)
def test_an_extended_run_equals_the_larger_grid_record_by_record(options, added) -> None:
    listener = Listener(reply)
    model = ScriptedModel(listener)
    run = small(model, **options)
    before, n_before = stored(run), len(listener.prompts)
    run = icl_harness.extend(run, model=model, data="data", **added)
    n_asked = len(listener.prompts)
    fresh = icl_harness.run(
        "toy", model, out="fresh", data="data", **{**options, **whole_grid(added, **options)}
    )
    assert answers(run).equals(answers(fresh))
    assert before <= stored(run)
    assert n_asked == len(listener.prompts) - n_asked  # in two parts as many as at once
    assert run.curves().equals(fresh.curves())
    assert n_before <= n_asked
    again = icl_harness.run(
        "toy", model, out=run.path, data="data", **{**options, **whole_grid(added, **options)}
    )
    assert len(listener.prompts) == 2 * n_asked  # the larger command finds all there
    assert again.header["spec"] == fresh.header["spec"]


@pytest.mark.usefixtures("toy")
def test_run_json_notes_what_was_there_before() -> None:
    model = ScriptedModel(right)
    run = small(model)
    run = icl_harness.extend(run, model=model, data="data", draws=3)
    run = icl_harness.extend(run, model=model, data="data", shots=[8])
    notes = run.header["extended"]
    assert [note["spec"] for note in notes] == [{"draws": 2}, {"shots": [0, 4]}]
    assert run.header["spec"]["shots"] == [0, 4, 8]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("added", "words"),
    [
        ({"draws": 1}, "--draws is 1, and out has 2: a run is extended, not cut"),
        ({"queries": 4}, "--queries is 4, and out has 5"),
        ({"seed": 1}, "--seed cannot be added to a run"),
        ({"model_args": {"a": "b"}}, "--model-args cannot be added"),
        ({"shots": [5000]}, "toy has 40 pool examples"),
        ({"draws": 0}, "--draws is 0"),
        ({"variants": ["flyped"]}, "flyped"),
    ],
)
def test_what_cannot_be_added_is_refused_and_changes_nothing(added, words) -> None:
    model = ScriptedModel(right)
    run = small(model)
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(SpecError, match=words):
        icl_harness.extend(run, model=model, data="data", **added)
    assert (run.path / "run.json").read_bytes() == before


@pytest.mark.usefixtures("toy")
def test_more_queries_are_refused_where_they_would_regroup_the_requests() -> None:
    model = ScriptedModel(lambda prompt: "1: even\n2: odd")
    run = small(model, queries=4, queries_per_request=2)
    with pytest.raises(StoreError, match="share a request"):
        icl_harness.extend(run, model=model, data="data", queries=6)
    assert len(icl_harness.extend(run, model=model, data="data", draws=3).records()) == 24


@pytest.mark.usefixtures("toy")
def test_new_queries_that_leave_room_for_fewer_shots_are_refused() -> None:
    rows = [json.loads(line) for line in Path("data/toy/test.jsonl").read_text().splitlines()]
    run = small(ScriptedModel(right, context_window=34), out="probe")
    asked = set(run.records()["query_id"])
    for row in rows:
        if row["id"] not in asked:
            row["text"] += " indeed" * 9
    Path("data/toy/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = ScriptedModel(right, context_window=34)
    run = small(model)
    assert set(run.records()["shots_used"]) == {0, 4}
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(StoreError, match="a new query is longer than those before"):
        icl_harness.extend(run, model=model, data="data", queries=12)
    assert (run.path / "run.json").read_bytes() == before


@pytest.mark.usefixtures("toy")
def test_changed_data_are_refused() -> None:
    model = ScriptedModel(right)
    run = small(model)
    path = Path("data/toy/train.jsonl")
    path.write_text(path.read_text().replace("n 7", "n 77"))
    with pytest.raises(StoreError, match="other data of toy"):
        icl_harness.extend(run, model=model, data="data", draws=3)


class _Killed(BaseException):
    pass


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("where", ["write_header", "records_of", "after run.json"])
def test_a_kill_while_the_folder_changes_loses_nothing(monkeypatch, where) -> None:
    """At each instant the folder is the old run or the larger one, and both read and go on."""
    model = ScriptedModel(right)
    run = small(model)
    before = stored(run)

    def kill(*_: Any, **__: Any) -> None:
        raise _Killed

    def write_then_kill(path: Path, header: dict[str, Any]) -> None:
        headers.write_header(path, header)
        raise _Killed

    with monkeypatch.context() as patch:
        if where == "after run.json":
            patch.setattr(stores, "write_header", write_then_kill)
        else:
            patch.setattr(stores, where, kill)
        with pytest.raises(_Killed):
            icl_harness.extend(run, model=model, data="data", draws=3)
    assert stored(Run("out")) == before
    assert len(Run("out").curves()) == 2
    done = icl_harness.extend("out", model=model, data="data", draws=3)
    assert len(done.records()) == 3 * 2 * 5
    assert before <= stored(done)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("n", [1, 3, 6])
def test_stopped_after_any_answer_it_goes_on_and_asks_nothing_twice(n) -> None:
    run = small(ScriptedModel(right))
    before, left = stored(run), [n]

    def stop(prompt: Prompt) -> str:
        if not left[0]:
            raise _Killed
        left[0] -= 1
        return right(prompt)

    with pytest.raises(BaseException):  # noqa: B017, PT011 - a group of what was raised
        icl_harness.extend(run, model=ScriptedModel(stop), data="data", draws=4, shots=[8])
    assert before <= stored(Run("out"))
    rest = Listener()
    done = icl_harness.extend("out", model=ScriptedModel(rest), data="data", draws=4)
    everything = Listener()
    options = whole_grid({"draws": 4, "shots": [8]})
    fresh = icl_harness.run("toy", ScriptedModel(everything), out="fresh", data="data", **options)
    assert answers(done).equals(answers(fresh))
    n_small = 5 + 2 * 5  # its zero-shot queries are sent once for both draws
    assert n_small + n + len(rest.prompts) == len(everything.prompts)


@pytest.mark.usefixtures("toy")
def test_another_run_s_records_are_still_refused_after_an_extension() -> None:
    model = ScriptedModel(right)
    small(model)
    small(model, out="other", seed=1)
    icl_harness.extend("out", model=model, data="data", draws=3)
    for name in ("records.db", "records.crc"):
        Path("out", name).write_bytes(Path("other", name).read_bytes())
    with pytest.raises(StoreError, match="belong to different runs"):
        Run("out")


def taken(server: LoopbackServer) -> set[str]:
    """Return what was asked since the last call, each once: a slow machine may try again."""
    asked = {json.dumps(request.body, sort_keys=True) for request in server.requests}
    server.requests.clear()
    return asked


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("wire", ["chat", "messages", "gemini"])
def test_through_an_api_only_what_is_new_is_sent_and_paid(monkeypatch, wire) -> None:
    plant_keys(monkeypatch)
    with LoopbackServer() as server:
        named = WIRES[wire]
        options = {
            "base_url": server.base_url(named.provider), "model_args": named.model_args(),
            "timing": QUICK,
        }  # fmt: skip
        run = small(named.id, **options)
        before, of_small = stored(run), taken(server)
        added = {"draws": 3, "queries": 8, "shots": [8]}
        run = icl_harness.extend(run, data="data", timing=QUICK, **added)
        new = taken(server)
        fresh = icl_harness.run(
            "toy", named.id, out="fresh", data="data", **options, **whole_grid(added)
        )
        assert of_small
        assert new
        assert not of_small & new
        assert of_small | new == taken(server)
    assert before <= stored(run)
    columns = ["shots", "draw", "query_id", "shots_used", "node_hash", "answer", "score", "reused"]
    assert run.records()[columns].equals(fresh.records()[columns])


@pytest.mark.usefixtures("toy")
def test_the_command_extends_and_a_larger_icl_run_says_how() -> None:
    runner = CliRunner()
    grid = ["toy", "--model", "baseline/majority", "--data", "data", "--queries", "6"]
    done = runner.invoke(app, ["run", *grid, "--shots", "2", "--draws", "1", "--out", "out"])
    assert done.exit_code == 0
    with pytest.raises(StoreError, match=r"icl extend out --draws 2 --shots 2,4` adds what is new"):
        runner.invoke(
            app,
            ["run", *grid, "--shots", "2,4", "--draws", "2", "--out", "out"],
            catch_exceptions=False,
        )
    done = runner.invoke(app, ["extend", "out", "--draws", "2", "--shots", "2,4"])
    assert done.exit_code == 0, done.output
    assert len(Run("out").records()) == 24
    assert "How it is carried out" in runner.invoke(app, ["extend", "--help"]).output


@pytest.mark.parametrize(
    ("old", "new", "is_larger"),
    [
        ({"draws": 2}, {"draws": 3}, True),
        ({"draws": 3}, {"draws": 2}, False),
        ({"queries": 5}, {"queries": None}, True),
        ({"queries": None}, {"queries": 5}, False),
        ({"shots": [0, 4]}, {"shots": [0, 2, 4]}, True),
        ({"shots": [0, 4]}, {"shots": [0, 2]}, False),
        ({"modes": ["a"]}, {"modes": ["a", "b"]}, True),
        ({"modes": ["a"]}, {"modes": ["b", "a"]}, False),
        ({"seed": 0, "draws": 2}, {"seed": 1, "draws": 3}, False),
        ({"draws": 2}, {"draws": 2}, False),
        ({"samples": 1}, {"samples": 5}, True),
    ],
)
def test_only_a_grid_that_holds_the_old_one_extends_it(old, new, is_larger) -> None:
    assert grows(old, new) is is_larger
    assert with_growth(old, new).keys() == old.keys()
