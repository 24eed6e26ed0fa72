"""Controls of what a prompt is made of: filler, instruct, prompts and shots of another task."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import icl_harness
from icl_harness import Prompt, ScriptedModel, Task, label_match
from icl_harness.cli.execute import execute
from icl_harness.errors import DataError, IclError, SpecError, StoreError
from icl_harness.plan.asker import make_plan
from icl_harness.prompts.filler import WORDS, make_filler, n_bytes
from icl_harness.prompts.tree import Node
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.execution import Execution
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.extending import larger_spec
from icl_harness.runner.spec import Spec
from icl_harness.store.records import RunStore
from tests.api_runs import Parity, Wire, every_wire, plant_keys, sent_asks
from tests.conftest import N_QUERIES, TOY_PROMPTS, TOY_TASK, parity
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("toy")
OTHER_TASK = TOY_TASK.replace("def toy", "def other").replace('"even", "odd"', '"EVEN", "ODD"')
OTHER_TASK = OTHER_TASK.replace('{"even": "odd", "odd": "even"}', '{"EVEN": "ODD", "ODD": "EVEN"}')


def answer(prompt: Prompt) -> str:
    number = int(prompt.query.input.split()[1])
    return parity(number) if number >= 100 or number % 4 < 2 else parity(number + 1)


class Listener:
    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return answer(prompt)


class Counting(ScriptedModel):
    """Tells tokens: words and line ends."""

    def count_tokens(self, node: Node, query: str = "") -> int:
        text = node.text + query
        return len(text.split()) + text.count("\n")


@pytest.fixture
def other(toy: Path) -> Path:
    """A second task of other numbers, whose labels are written in capitals."""
    (toy / "tasks/other.py").write_text(OTHER_TASK)
    (toy / "data/other").mkdir()
    for name, numbers in (("train", range(200, 230)), ("test", range(300, 305))):
        lines = [
            f'{{"id": "{name}{i}", "text": "o {i}", "label": "{parity(i).upper()}"}}\n'
            for i in numbers
        ]
        (toy / f"data/other/{name}.jsonl").write_text("".join(lines))
    return toy


def go(model, task="toy", out="out", **options):
    """Run a grid, and draw no picture of it."""
    options = {"modes": ["supervised"], "shots": [0, 2, 8], "draws": 2, "data": "data", **options}
    name = model if isinstance(model, str) else model.id
    spec = Spec.from_dict({"tasks": task, "models": name, **options}, "test")
    opened = {} if isinstance(model, str) else {name: model}
    return execute(spec, Path(out), Execution(), opened)


def experiment(model=None, **options) -> Experiment:
    options = {"tasks": ("toy",), "shots": (0, 2, 8), "data": "data", **options}
    spec = Spec(models=("scripted",), **options)
    return Experiment(spec, {"scripted": model or ScriptedModel(answer)})


def paths(variant: str, mode: str = "supervised", model=None):
    found = experiment(model, variants=("default", variant), modes=(mode,), draws=1)
    return [found.path(line) for line in found.lines()]


@pytest.mark.parametrize("mode", ["supervised", "unsupervised"])
def test_filler_is_as_long_as_the_shots_and_shows_none(mode: str) -> None:
    default, filler = paths("filler", mode, Counting(answer))
    for k in (1, 2, 8, 40):
        shots, other = default.node(k), filler.node(k)
        assert Counting(answer).count_tokens(other) == Counting(answer).count_tokens(shots)
        assert other.n_shots == k
        assert other.shots == []
        assert not any(character.isdigit() for character in other.text)
    assert filler.node(0).hash == default.node(0).hash
    if mode == "supervised":
        assert filler.node(8).text.startswith(filler.node(2).text)


def test_filler_without_a_tokenizer_is_as_long_in_bytes() -> None:
    make = make_filler(n_bytes, ("paper", "the river"), 0, 0, "x")
    shot = "Question: who wrote this long and winding sentence about rivers?\nKind: human\n\n"
    text = make(3, shot)
    assert abs(n_bytes(text) - n_bytes(shot)) < 3
    assert text.endswith("\n\n")
    assert text == make(3, shot)
    assert text != make(4, shot)
    words = set(text.split()) - {"."}
    assert words <= set(WORDS.split()) - {"paper", "river"}, "no label is among them"


@pytest.mark.slow
def test_a_run_with_filler_says_its_length_and_no_shot_and_resumes() -> None:
    done = go(ScriptedModel(answer), variants=["default", "filler"])
    records = done.records(shot_ids=True).query("variant == 'filler'")
    assert (records["shots_used"] == records["shots"]).all()
    assert set(map(len, records["shot_ids"])) == {0}
    silent = Listener()
    go(ScriptedModel(silent), variants=["default", "filler"])
    assert silent.prompts == []
    compared = done.compare(by="variant")
    assert set(compared["b"]) == {"filler"}
    assert compared.query("shots == 8")["ci_low"].notna().all(), "they are not the same prompts"


def test_filler_is_as_long_as_what_nested_operators_show() -> None:
    _, filler = paths("filler+repeat=2", model=Counting(answer))
    _, repeated = paths("repeat=2", model=Counting(answer))
    count = Counting(answer).count_tokens
    assert count(filler.node(8)) == count(repeated.node(8))


def test_instruct_none_leaves_the_preamble_out_and_keeps_the_shots() -> None:
    default, alone = paths("instruct=none")
    preamble = default.node(0).text
    assert alone.node(0).text == ""
    assert preamble + alone.node(8).text == default.node(8).text


@pytest.mark.parametrize("mode", ["supervised", "unsupervised", "reinforced"])
def test_instruct_only_is_the_zero_shot_prompt_at_every_count(mode: str) -> None:
    listener = Listener()
    run = go(ScriptedModel(listener), variants=["instruct=only"], modes=[mode])
    assert len(listener.prompts) == N_QUERIES, "it is sent once, and no bank is made"
    assert {prompt.node.n_shots for prompt in listener.prompts} == {0}
    records = run.records()
    assert set(records["shots"]) == {0, 2, 8}
    assert set(records["shots_used"]) == {0}


REFUSED = {
    "instruct=only+noise=0.2": "instruct=only shows no shots, so noise=0.2 would do nothing",
    "instruct=only+shots-from=other": "so shots-from=other would do nothing",
    "filler+noise=0.2": "filler stands in the place of the shots, so noise would do nothing",
    "filler+sorted": "so sorted would do nothing",
    "filler+nearest=BM25": "so nearest would do nothing",
    "filler+instruct=only": "instruct=only shows no shots, so filler would do nothing",
    "instruct=both": "instruct takes one of none, only, as in instruct=none; 'both' is not one",
    "prompts=": "prompts takes the name of a file in prompts/",
    "shots-from": "shots-from takes the name of another task, as in shots-from=trec; none",
}


@pytest.mark.parametrize("variant", REFUSED)
def test_what_would_do_nothing_is_refused_in_one_line(variant: str) -> None:
    with pytest.raises(SpecError, match=REFUSED[variant]):
        parse_variant(variant)


def test_what_a_task_or_mode_cannot_give_is_refused_before_anything_is_asked(other) -> None:
    with pytest.raises(SpecError, match="without its instruction an unsupervised prompt says noth"):
        experiment(variants=("instruct=none",), modes=("unsupervised",))
    with pytest.raises(SpecError, match=r"no prompts/toi\.jinja\. Nearest: toy"):
        experiment(prompts="toi")
    with pytest.raises(SpecError, match="--shots-from toy: these are toy's own shots"):
        experiment(shots_from="toy")
    with pytest.raises(SpecError, match="baseline/knn reads no prompts, so their words do nothing"):
        Spec(tasks=("toy",), models=("baseline/knn",), prompts="toy")
    with pytest.raises(SpecError, match=r"no task 'othr'\. Nearest: other"):
        experiment(shots_from="othr")
    with pytest.raises(SpecError, match="30 pool examples; --shots asks for 31"):
        experiment(shots_from="other", shots=(31,))


@pytest.mark.slow
def test_shots_of_another_task_are_worded_as_this_one_s_and_stay_their_draws(other) -> None:
    listener = Listener()
    run = go(ScriptedModel(listener), variants="default,flipped", shots_from="other")
    assert set(run.curves()["variant"]) == {"shots-from=other", "flipped+shots-from=other"}
    own = go(ScriptedModel(Listener()), task="other", out="own")
    shown = run.records(shot_ids=True).query("variant == 'shots-from=other' and shots == 8")
    theirs = own.records(shot_ids=True).query("shots == 8")
    by_draw = shown.groupby("draw")["shot_ids"].first()
    assert by_draw.equals(theirs.groupby("draw")["shot_ids"].first())
    prompt = next(p for p in listener.prompts if p.node.n_shots == 2)
    assert prompt.text.startswith("Even or odd?")
    assert " -> EVEN\n" in prompt.node.text or " -> ODD\n" in prompt.node.text
    assert prompt.query.text.startswith("n 1")
    assert run.header["data"]["other"]["pool"] == own.header["data"]["other"]["pool"]
    assert "shots_from" not in run.header["spec"]


@pytest.mark.slow
def test_transfer_and_own_shots_are_compared_in_one_run_or_two(other) -> None:
    own = go(ScriptedModel(answer), out="own")
    go(ScriptedModel(answer), out="moved", shots_from="other")
    both = icl_harness.load("own", "moved")
    for by in ("shots_from", "shots-from"):
        found = both.compare(by=by)
        assert set(found["a"]) == {"default"}
        assert set(found["b"]) == {"other"}
        assert set(found["variant"]) == {"default"}
    assert own.header["spec"]["variants"] == ["default"]


@pytest.mark.slow
def test_in_python_shots_come_from_a_task_object_too() -> None:
    rows = [{"input": f"o {n}", "target": parity(n).upper()} for n in range(200, 212)]
    options = {"prompts": "toy", "scorer": label_match, "labels": ("EVEN", "ODD"), "max_tokens": 4}
    mine = Task(pool=rows[:8], queries=rows[8:], name="mine", **options)
    listener = Listener()
    options = {"out": "out", "data": "data", "shots": [2], "draws": 1}
    run = icl_harness.run("toy", ScriptedModel(listener), shots_from=mine, **options)
    assert run.header["spec"]["variants"] == ["shots-from=mine"]
    assert {shot.input[0] for prompt in listener.prompts for shot in prompt.node.shots} == {"o"}
    with pytest.raises(SpecError, match="shots_from is mine; give one task of another name"):
        icl_harness.run(mine, ScriptedModel(answer), shots_from=mine)


@pytest.mark.slow
def test_the_bank_of_a_transfer_is_the_other_task_s(other) -> None:
    listener = Listener()

    def told(prompt: Prompt) -> str:
        return listener(prompt).upper() if prompt.query.input.startswith("o ") else "even"

    run = go(ScriptedModel(told), shots_from="other", modes=["reinforced"], bank_samples=1)
    assert {prompt.query.input[0] for prompt in listener.prompts} == {"o"}
    bank = next(Path("out/banks").glob("*.jsonl"))
    assert bank.name.startswith("bank-other-default-")
    go(ScriptedModel(told), task="other", out="own", modes=["reinforced"], bank_samples=1)
    again = go(
        ScriptedModel(told), out="again", shots_from="other", modes=["reinforced"], bank="own"
    )
    key = ["shots", "draw", "query_id"]
    assert (
        again.records()
        .set_index(key)["node_hash"]
        .equals(run.records().set_index(key)["node_hash"])
    )


def test_a_query_in_the_other_pool_is_refused_or_left_out(other) -> None:
    rows = Path("data/other/train.jsonl")
    rows.write_text(rows.read_text() + '{"id": "late", "text": "N 101.", "label": "ODD"}\n')
    with pytest.raises(DataError, match=r"shots of other before queries of toy: .*late = test101"):
        experiment(shots_from="other")
    Path("tasks/other.py").write_text(OTHER_TASK.replace("max_tokens", 'leaks="drop", max_tokens'))
    found = experiment(shots_from="other")
    pool = found.dataset(found.tasks[0], "shots-from=other", 0).pool
    assert len(pool) == 30


@pytest.mark.slow
def test_wordings_are_an_axis_of_the_results() -> None:
    Path("prompts/terse.jinja").write_text(TOY_PROMPTS.replace("Even or odd?", "Parity"))
    listener = Listener()
    run = go(ScriptedModel(listener), prompts="toy,terse", variants="default,flipped", draws=1)
    assert set(run.header["spec"]["variants"]) == {
        "prompts=toy",
        "prompts=terse",
        "flipped+prompts=toy",
        "flipped+prompts=terse",
    }
    assert {p.node.text.split()[0] for p in listener.prompts} == {"Even", "Parity"}
    found = run.compare(by="prompts")
    assert set(found["variant"]) == {"default", "flipped"}
    assert set(zip(found["a"], found["b"], strict=True)) == {("terse", "toy")}
    Path("prompts/terse.jinja").write_text(TOY_PROMPTS.replace("Even or odd?", "Which"))
    with pytest.raises(IclError, match="another wording of toy, prompts=terse"):
        go(ScriptedModel(listener), prompts="toy,terse", variants="default,flipped", draws=1)


def test_a_plan_says_what_each_does_to_caches(other) -> None:
    variants = ("filler", "instruct=none", "instruct=only", "prompts=toy", "shots-from=other")
    notes = asyncio.run(make_plan(experiment(variants=variants), Path("none"))).notes
    assert [note.partition(":")[0] for note in notes] == [f"variant {name}" for name in variants]
    plan = asyncio.run(make_plan(experiment(variants=("instruct=only",)), Path("none")))
    assert [row.requests for row in plan.rows if row.shots] == [0] * 6


def test_a_run_is_extended_by_a_control(other) -> None:
    go(ScriptedModel(answer))
    run = icl_harness.Run("out")
    assert run.header["spec"]["variants"] == ["default"]
    spec = larger_spec(Path("out"), run.header, {"variants": "shots-from=other,prompts=toy"})
    assert spec.variants == ("default", "shots-from=other", "prompts=toy")
    larger = Experiment(spec, {"scripted": ScriptedModel(answer)})
    header = RunStore.create_or_resume(Path("out"), larger.header(), extends=True)
    header.close()
    with pytest.raises(StoreError, match="another spec"):
        go(ScriptedModel(answer))


@pytest.mark.slow
@every_wire
def test_providers_take_prompts_without_an_instruction_and_filler(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_keys(monkeypatch)
    with LoopbackServer(Parity()) as server:
        run = go(
            wire.id,
            base_url=server.base_url(wire.provider),
            model_args=wire.model_args(),
            variants=["instruct=none", "filler", "filler+instruct=none"],
            format="chat",
            shots=[0, 2],
            draws=1,
            queries=2,
        )
        sent = [request.parts for request in sent_asks(wire, server)]
    records = run.records()
    assert (records["status"] == "ok").all()
    assert (records["score"] == 1).all()
    bare = [parts for parts in sent if "Even or odd?" not in "".join(parts)]
    assert len(bare) == len(sent) - 4
    texts = ["".join(parts) for parts in sent]
    assert sum(text.count("->") == 1 for text in texts if text[0] == "n") == 4


@pytest.mark.slow
def test_filler_that_does_not_fit_is_dropped_as_shots_are_and_a_bank_s_is_as_long() -> None:
    options = {"modes": ["supervised", "reinforced"], "shots": [2, 40], "bank_samples": 1}
    done = go(ScriptedModel(answer, context_window=60), variants=["default", "filler"], **options)
    used = done.records().groupby(["mode", "variant", "shots"])["shots_used"].unique()
    for mode in ("supervised", "reinforced"):
        assert len(used[mode, "filler", 40]) == 1
        assert 2 < used[mode, "filler", 40][0] < 20
        assert used[mode, "filler", 40][0] == used[mode, "default", 40][0]
    listener = Listener()
    again = go(
        ScriptedModel(listener, context_window=60), variants=["default", "filler"], **options
    )
    assert listener.prompts == []
    assert again.records().equals(done.records())
