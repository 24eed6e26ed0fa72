"""Answers as models write them, through whole runs: thoughts, leading line ends, cuts."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness import ScriptedModel, run
from icl_harness.models import open_model
from icl_harness.models.base import Answer, Model, Sampling
from icl_harness.prompts.tree import Node, Query
from icl_harness.runner.rescoring import rescore
from tests.api_runs import plant_keys
from tests.conftest import parity
from tests.fake_vllm import open_fake_vllm
from tests.servers import LoopbackServer
from tests.tiny_models import build_tokenizer
from tests.trained_models import save_trained_model

WIRES = {
    "chat": ("openai/some-model", {}),
    "responses": ("openai/some-model", {"api": "responses"}),
    "completions": ("openai/some-model", {"api": "completions"}),
    "anthropic": ("anthropic/claude-sonnet-4-5", {}),
    "gemini": ("google/gemini-2.0-flash", {}),
}
every_wire = pytest.mark.parametrize("wire", WIRES)
DRESSES = {
    "bare": "{}",
    "line ends": "\n\n{}\n\nn 7 ->",
    "a space and line ends": " \n\n{}\n",
    "carriage returns": "\r\n{}\r\n",
    "a thought": "<think>\nIt is even or odd.\n\n</think>\n\n{}",
    "a thought that the prompt began": "Even? Odd!\n</think>\n{}",
    "Magistral": "[THINK]even\nodd[/THINK]{}\n",
    "an answer's tags": "<think>x</think>\n<answer>\n{}\n</answer>",
}


def number_of(prompt: str) -> int:
    words = [word for word in prompt.replace("->", " ").split() if word.isdigit()]
    return int(words[-1])


def ran(
    model: str | ScriptedModel, **more: object
) -> tuple[pd.Series, pd.DataFrame, icl_harness.Run]:
    found = run("toy", model, modes=["supervised"], shots=[2], draws=1, queries=6, **more)
    return found.curves().iloc[0], found.records(), found


def ran_on(server: LoopbackServer, wire: str, **args: str) -> tuple:
    name, given = WIRES[wire]
    base_url = server.base_url(name.partition("/")[0])
    args = {"reasoning_tokens": "50", "max_retries": "0", **given, **args}
    return ran(name, base_url=base_url, model_args=args)


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize("dress", DRESSES)
def test_a_right_answer_in_any_dress_is_right_on_every_api(
    toy: Path, monkeypatch: pytest.MonkeyPatch, wire: str, dress: str
) -> None:
    plant_keys(monkeypatch)
    with LoopbackServer(lambda p: DRESSES[dress].format(parity(number_of(p)))) as server:
        curve, records, _ = ran_on(server, wire)
    assert (curve["value"], curve["n_unparsed"], curve["n_cut"]) == (1, 0, 0)
    wholes = [DRESSES[dress].format(target) for target in records["target"]]
    found = records["whole_answer"].fillna(records["answer"])
    assert found.tolist() == wholes, "nothing of what was given is lost"


@pytest.mark.slow
@pytest.mark.parametrize("dress", DRESSES)
def test_so_it_is_of_a_scripted_model(toy: Path, dress: str) -> None:
    model = ScriptedModel(lambda p: DRESSES[dress].format(parity(number_of(p.text))))
    curve, _, _ = ran(model)
    assert (curve["value"], curve["n_unparsed"], curve["n_cut"]) == (1, 0, 0)


STOPPING = 'labels=("even", "odd"),'


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["chat", "completions", "anthropic", "gemini"])
def test_a_stop_string_that_ends_a_thought_is_left_out_and_paid_for(
    toy: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    plant_keys(monkeypatch)
    task = (toy / "tasks/toy.py").read_text()
    (toy / "tasks/toy.py").write_text(task.replace(STOPPING, STOPPING + ' stop=("\\nn ",),'))
    thought = "<think>like\nn 3 -> odd</think>\n"
    with LoopbackServer(lambda p: thought + parity(number_of(p)) + "\nn 9 -> odd") as server:
        curve, records, _ = ran_on(server, wire)
    assert curve["value"] == 1
    again = len(server.requests) - 6
    assert 1 <= again <= 6
    billed = sum(
        bill.input + bill.cache_read + sum(bill.cache_write.values()) for bill in server.bill
    )
    assert records["prompt_tokens"].sum() == billed


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize(
    ("reply", "parsed", "cut"),
    [
        ("{} because of the many reasons that there are", True, True),
        ("<think>well let us see whether it may be even or odd", False, True),
        ("I cannot quite decide between the two of them", False, True),
    ],
)
def test_what_the_limit_cut_is_counted_and_a_complete_label_stays_right(
    toy: Path, monkeypatch: pytest.MonkeyPatch, wire: str, reply: str, parsed: bool, cut: bool
) -> None:
    plant_keys(monkeypatch)
    with LoopbackServer(lambda p: reply.format(parity(number_of(p)))) as server:
        room = "0" if wire != "responses" else "-"
        args = {} if wire == "responses" else {"reasoning_tokens": room}
        if wire == "responses":
            pytest.skip("it allows no fewer than 16 tokens")
        curve, records, _ = ran_on(server, wire, **args)
    assert curve["n_cut"] == 6 * cut
    assert records["cut"].all()
    if parsed:
        assert (curve["value"], curve["n_unparsed"]) == (1, 0)
    elif reply.startswith("<think>"):
        assert curve["n_failed"] == 6, "it was still thinking: missing, not wrong"
        assert records["whole_answer"].str.startswith("<think>").all()
        assert records["error"].str.contains("reasoning_tokens=N").all()
    else:
        assert (curve["value"], curve["n_unparsed"]) == (0, 6)


def test_a_thought_that_ends_with_the_answer_is_no_answer_and_counted(toy: Path) -> None:
    curve, records, _ = ran(ScriptedModel(lambda p: "<think>it is even"))
    assert (curve["value"], curve["n_unparsed"], curve["n_cut"]) == (0, 6, 6)
    assert set(records["whole_answer"]) == {"<think>it is even"}


def test_an_answer_is_read_again_out_of_all_that_was_written(toy: Path) -> None:
    """With the stop strings that the task has by then."""
    model = ScriptedModel(lambda p: f"<think>x</think>Well.\n{parity(number_of(p.text))}\nNext")
    curve, records, found = ran(model)
    assert curve["value"] == 0
    assert set(records["answer"]) == {"Well."}
    task = (toy / "tasks/toy.py").read_text()
    last = "lambda answer, e: label_match(answer.splitlines()[-1], e)"
    task = task.replace("scorer=label_match", f"scorer={last}").replace(
        STOPPING, STOPPING + ' stop=("\\nNext",),'
    )
    (toy / "tasks/toy.py").write_text(task)
    rescoring = rescore(found.path)
    assert (rescoring.n_scored, rescoring.n_changed) == (6, 6)
    again = icl_harness.Run(found.path)
    assert again.curves()["value"].tolist() == [1]
    assert set(again.records()["answer"]) == {"Well.\neven", "Well.\nodd"}
    assert set(again.records()["whole_answer"]) == set(records["whole_answer"])
    assert rescore(found.path).n_changed == 0


def test_a_repeated_query_keeps_what_its_first_answer_was_read_from(toy: Path) -> None:
    model = ScriptedModel(lambda p: f"\n{parity(number_of(p.text))}\nmore")
    found = run("toy", model, modes=["supervised"], shots=[0], draws=3, queries=6)
    records = found.records()
    assert records["reused"].sum() == 12
    assert records["whole_answer"].str.endswith("\nmore").all()


def test_the_whole_reply_stands_with_each_answer_of_a_group(toy: Path) -> None:
    reply = "<think>1: no</think>" + "\n".join(f"{i}: even" for i in (1, 2, 3))
    found = run(
        "toy", ScriptedModel(lambda p: reply), modes=["supervised"], shots=[2], draws=1, queries=6,
        queries_per_request=3,
    )  # fmt: skip
    records = found.records()
    assert set(records["answer"]) == {"even"}
    assert set(records["whole_answer"]) == {reply}


def test_attempts_of_a_bank_are_kept_whole_and_shown_without_thoughts(toy: Path) -> None:
    model = ScriptedModel(lambda p: f"<think>hm\n</think>\n{parity(number_of(p.text))}\n")
    found = run("toy", model, modes=["reinforced"], shots=[1], draws=1, queries=2, pool=4)
    [bank] = (found.path / "banks").glob("*.jsonl")
    assert '"whole": "<think>hm\\n</think>\\n' in bank.read_text()
    prompt = next(iter(icl_harness.Run(found.path).records()["query_id"]))
    assert "<think>" not in icl_harness.report.run.find_record(found.path, prompt, {})[0].text


# ---------------------------------------------------------------------------- local models


def dressed(dress: str) -> Callable[[random.Random], str]:
    def text(rng: random.Random) -> str:
        numbers = [rng.randrange(10) for _ in range(4)]
        return "".join(f"n {n} ->{dress.format(parity(n))}" for n in numbers)

    return text


LOCAL = {"line ends": "\n\n{}\n", "a thought": " <think>\nx\n</think>\n{}\n"}


@pytest.fixture(scope="module", params=LOCAL)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dressed(tmp_path_factory.mktemp(request.param.replace(" ", "_")), request.param)


def save_dressed(folder: Path, dress: str) -> Path:
    tokenizer = build_tokenizer("byte_bpe")
    tokenizer.add_tokens(["<think>", "</think>"])
    return save_trained_model(folder, dressed(LOCAL[dress]), tokenizer=tokenizer, steps=200)


def asked(model: Model, n_tokens: int, dress: str) -> list[Answer]:
    node = Node("").child(f"n 3 ->{LOCAL[dress].format('odd')}")
    queries = [Query(id=str(n), text=f"n {n} ->") for n in range(10)]

    async def collect() -> list[Answer]:
        found: list[Answer] = []
        sampling = Sampling(max_tokens=n_tokens, stop=("\n",))
        async for answers in model.answers(node, queries, sampling):
            found += answers
        return sorted(found, key=lambda answer: answer.query_id)

    return asyncio.run(collect())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["hf", "vllm"])
def test_local_models_are_read_up_to_the_stop_string_behind_the_answer(
    trained: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    if engine == "vllm":
        model, fake = open_fake_vllm(trained, monkeypatch)
    else:
        model = open_model(f"hf/{trained}")
    answers = asked(model, 40, trained.name[:-1].replace("_", " "))
    right = sum(a.text.strip() == parity(int(a.query_id)) for a in answers)
    assert right >= 9, [a.text for a in answers]
    assert all(a.whole and a.whole.strip() and not a.cut for a in answers)
    assert all(a.usage.completion_tokens < 40 for a in answers if engine == "hf"), "it stops there"
    if engine == "vllm":
        assert len(fake.calls) == 2, "those that a stop string ended too early are asked once more"
        assert fake.calls[1][0].stop == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["hf", "vllm"])
def test_local_thoughts_without_an_end_are_missing_and_given_room(
    trained: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    if not trained.name.startswith("a_thought"):
        pytest.skip("this model does not think")

    def opened(**args: str) -> Model:
        if engine == "vllm":
            return open_fake_vllm(trained, monkeypatch, **args)[0]
        return open_model(f"hf/{trained}", model_args=args)

    answers = asked(opened(), 2, "a thought")
    assert {a.status for a in answers} == {"failed"}
    assert all(a.cut and a.whole and a.whole.startswith(" <think>") for a in answers)
    assert "within 2 tokens; give room with --model-arg reasoning_tokens=N" in str(answers[0].error)
    assert {a.status for a in asked(opened(reasoning_tokens="30"), 2, "a thought")} == {"ok"}
