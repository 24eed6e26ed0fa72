"""Tasks of Inspect: the prompts that its solvers send, the scores that its scorers give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import icl_harness
from icl_harness.errors import IclError, SpecError
from icl_harness.tasks.harnesses.verbatim import Verbatim
from icl_harness.tasks.loading import find_tasks, load_examples

inspect_ai = pytest.importorskip(
    "inspect_ai", reason="needs inspect-ai: pip install 'icl-harness[inspect]'"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # Inspect's own

FILE = """
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample, json_dataset
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import accuracy, choice, f1, includes, match, model_graded_qa, pattern
from inspect_ai.scorer import CORRECT, INCORRECT, Score, answer, scorer, stderr
from inspect_ai.solver import basic_agent, chain_of_thought, generate, multiple_choice
from inspect_ai.solver import prompt_template, system_message, user_message

SUMS = [
    Sample(id=f"sum-{n}", input=f"What is {n} and {n + 1}?", target=str(2 * n + 1))
    for n in range(20)
]


@task
def sums():
    template = "Reply with a number.\\n\\n{prompt}"
    solver = [system_message("You add."), prompt_template(template), generate()]
    return Task(dataset=SUMS, solver=solver, scorer=match(numeric=True))


@task
def letters():
    samples = [
        Sample(input=f"Which is {n}?", choices=[str(n + 1), str(n), "none"], target="B")
        for n in range(20)
    ]
    return Task(dataset=samples, solver=multiple_choice(), scorer=choice())


@task
def from_file():
    return Task(dataset=json_dataset("rows.jsonl"), solver=[generate()], scorer=includes())


@scorer(metrics=[accuracy(), stderr()])
def ends_with_target():
    async def score(state, target):
        said = state.output.completion.strip()
        return Score(value=CORRECT if said.endswith(target.text) else INCORRECT, answer=said)

    return score


@task
def own_scorer():
    samples = [
        Sample(
            input=[ChatMessageSystem(content="Be brief."), ChatMessageUser(content=f"Say {n}.")],
            target=str(n),
        )
        for n in range(10)
    ]
    config = GenerateConfig(max_tokens=7, stop_seqs=["!"])
    return Task(dataset=samples, solver=generate(), scorer=ends_with_target(), config=config)


@task
def line():
    return Task(dataset=SUMS, solver=[chain_of_thought(), generate()], scorer=answer("line"))


@task
def overlap():
    return Task(dataset=SUMS, solver=generate(), scorer=f1())


@task
def twice():
    solver = [generate(), user_message("Sure?"), generate()]
    return Task(dataset=SUMS, solver=solver, scorer=match())


@task
def shuffled():
    samples = [Sample(input=f"{n}?", choices=list("abcdefgh"), target="B") for n in range(9)]
    return Task(dataset=samples, solver=multiple_choice(shuffle=True), scorer=choice())


@task
def boxed():
    return Task(dataset=SUMS, solver=generate(), scorer=match(), sandbox="docker")


@task
def graded():
    return Task(dataset=SUMS, solver=generate(), scorer=model_graded_qa())


@task
def systems():
    samples = [Sample(input="a", target="b", metadata={"n": n}) for n in range(4)]
    return Task(dataset=samples, solver=[system_message("{n}"), generate()], scorer=match())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "evals"
    folder.mkdir()
    (folder / "mine.py").write_text(FILE)
    rows = [{"input": f"Spell {n}", "target": f"<{n}>"} for n in range(10)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return folder


class NoEncoding:
    """Stands for tiktoken's encodings, which are fetched from the web."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * len(text)


def theirs(name: str, answer: str) -> dict[str, tuple[str, float]]:
    """What Inspect's own evaluation sends for each sample, and its score of one fixed answer."""
    from inspect_ai import eval as evaluate
    from inspect_ai.model import ModelOutput, get_model
    from inspect_ai.scorer import value_to_float

    outputs = (ModelOutput.from_content("mockllm/model", answer) for _ in range(100))
    model = get_model("mockllm/model", custom_outputs=outputs)
    (log,) = evaluate(
        f"evals/mine.py@{name}", model=model, display="none", log_dir="logs", log_format="json"
    )
    found = {}
    for sample in log.samples:
        (score,) = sample.scores.values()
        turns = [message.text for message in sample.messages if message.role != "assistant"]
        found[str(sample.id)] = ("\n\n".join(turns), value_to_float()(score.value))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("sums", "It is 7."), ("letters", "ANSWER: B"), ("from_file", "it is <3>"),
        ("own_scorer", "so 3"), ("line", "Well.\nANSWER: 9"), ("overlap", "11 12"),
    ],
)  # fmt: skip
def test_prompts_and_scores_are_inspects(
    name: str, answer: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: NoEncoding())
    expected = theirs(name, answer)
    task = find_tasks(f"inspect:evals/mine.py@{name}")[0]
    examples = [*load_examples(task).queries, *load_examples(task).pool]
    assert isinstance(task.pool, Verbatim)
    numbers = {example.id: example.id.removeprefix("sample-") for example in examples}
    for example in examples:
        theirs_of = example.id if example.id in expected else str(int(numbers[example.id]) + 1)
        prompt, value = expected[theirs_of]
        assert f"{task.fields['preamble']}{example.input}" == prompt
        assert task.scorer(answer, example).value == value
    assert len({value for _, value in expected.values()}) > 1 or name == "letters"


def test_a_run_shows_gold_answers_in_the_form_that_the_scorer_reads(place: Path) -> None:
    prompts = []

    def model(prompt: str) -> str:
        prompts.append(str(prompt))
        return "ANSWER: B"

    done = icl_harness.run("inspect:evals/mine.py@letters", model, shots=[0, 2], draws=1, out="run")
    assert done.curves()["value"].tolist() == [1.0, 1.0]
    longest = max(prompts, key=len)
    assert longest.count("\nANSWER: B\n\nAnswer the following") == 2
    header = json.loads(Path("run/run.json").read_text())
    about = header["tasks"]["inspect:mine.py@letters"]["origin"]
    assert about["scorer"] == "choice"
    assert about["harness_version"] == inspect_ai.__version__
    icl_harness.rescore("run")
    (place / "mine.py").write_text(FILE.replace('target="B"', 'target="A"'))
    with pytest.raises(IclError, match=r"other data of inspect:mine\.py@letters"):
        icl_harness.run("inspect:evals/mine.py@letters", model, shots=[0, 2], draws=1, out="run")


def test_letters_are_weighed_behind_the_words_that_come_before_them(place: Path) -> None:
    done = icl_harness.run(
        "inspect:evals/mine.py@letters", "baseline/majority", shots=[2], scoring="choices",
        draws=1, out="run",
    )  # fmt: skip
    assert done.curves()["value"].tolist() == [1.0]
    task = find_tasks("inspect:evals/mine.py@letters")[0]
    assert task.labels == ("A", "B", "C")
    assert task.fields["before_choice"] == "\nANSWER: "


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("twice", "more than one question"), ("shuffled", "another prompt each time"),
        ("boxed", "sandbox"), ("graded", "another model"), ("systems", "system message differs"),
        ("sum", "Nearest: sums"),
    ],
)  # fmt: skip
def test_what_is_no_question_with_an_answer_is_refused_in_one_line(
    name: str, what: str, place: Path
) -> None:
    with pytest.raises(IclError, match=what) as error:
        find_tasks(f"inspect:evals/mine.py@{name}")
    assert "\n" not in str(error.value)


def test_a_file_alone_stands_for_all_its_tasks(place: Path) -> None:
    (place / "two.py").write_text(FILE.partition("@task\ndef from_file")[0])
    names = [task.name for task in find_tasks("inspect:evals/two.py")]
    assert names == ["inspect:two.py@sums", "inspect:two.py@letters"]
    with pytest.raises(SpecError, match="no Python file"):
        find_tasks("inspect:evals/none.py@sums")
