"""Models that know every answer and dress it as models do: what share of them is read, by dress,
task and back end.

    python -m tests.oracles --data ../shared/data

Out: a table that must hold 1.000 everywhere (exit code 1 where it does not). An oracle that hedges,
and one that says another answer, must get .000. API back ends are real SDKs against a loopback
server. `hf` and `vllm` are local models of `transformers` (oracle_models.py), read token by token;
vLLM's engine is a stand-in, as it needs a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import transformers

import icl_harness
from icl_harness import Example, ScriptedModel
from icl_harness.models import open_model
from icl_harness.models.base import Model
from icl_harness.tasks.loading import find_tasks, load_examples
from tests.fake_vllm import open_fake_vllm
from tests.oracle_models import END, save_oracle
from tests.servers import LoopbackServer

# the kind of answer that a task asks for
TASKS = {
    "gsm8k": "number",
    "bbh:multistep_arithmetic_two": "number",
    "bbh:logical_deduction_five_objects": "letter",
    "bbh:navigate": "word",
    "bbh:word_sorting": "list",
    "bbh:dyck_languages": "brackets",
    "trec": "label",
    "sentiment": "label",
    "banking77": "label",
}
N_QUERIES = 8
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
ROOM = "300"  # tokens beside a task's own: those of the oracles are short
MINUS = "\N{EN DASH}"
Dress = Callable[[str], str]

EVERY_KIND: dict[str, Dress] = {
    "plain": lambda t: f" {t}",
    "after line ends": lambda t: f"\n\n{t}",
    "after carriage returns": lambda t: f" \r\n{t}\r\n",
    "bold": lambda t: f" **{t}**",
    "after a cue": lambda t: f" The final answer is {t}.",
    "after a bold cue": lambda t: f" **Final answer:** {t}",
    "after a thought": lambda t: f"<think>\nIs it this? Or that?\n</think>\n\n{t}",
    "before another problem": lambda t: f" {t}\n---\nProblem: And then?\n\nQuestion: What?",
}
REASONED: dict[str, Dress] = {
    "after reasons": lambda t: (
        f" Let us see.\nOne thing leads to another.\nThe final answer is {t}."
    ),
    "cue on its own line": lambda t: f" So it is.\n\n**The final answer is:**\n\n{t}",
    "boxed": lambda t: f" Then\n\\[ \\boxed{{\\text{{{t}}}}} \\]",
    "praised": lambda t: f" The final answer is {t}. This answer is correct.",
}
OF_KIND: dict[str, dict[str, Dress]] = {
    "number": {
        **REASONED,
        "boxed": lambda t: f" Then\n$$\\boxed{{{t}}}$$",
        "with another minus": lambda t: f" The final answer is {t.replace('-', MINUS)}.",
        "with a unit": lambda t: f" She has 3 of them.\nAnswer: {t} clips",
    },
    "letter": {
        **REASONED,
        "without parentheses": lambda t: f" Answer: {t.strip('()')}",
        "as an option": lambda t: f" Option {t.strip('()')} is correct.",
        "in brackets": lambda t: f" Answer: [{t.strip('()')}]",
        "after another language's cue": lambda t: f" 答案：{t.strip('()')}",
    },
    "word": {**REASONED, "in capitals": lambda t: f" Answer: {t.upper()}"},
    "list": {
        "one a line": lambda t: " The final answer is:\n" + "\n".join(t.split()),
        "numbered": lambda t: (
            " The final answer is:\n"
            + "\n".join(f"{i}. {word}" for i, word in enumerate(t.split(), 1))
        ),
        "with commas": lambda t: " The final answer is " + ", ".join(t.split()) + ".",
    },
    "brackets": {"after reasons": lambda t: f" They open.\nThe final answer is {t}"},
    "label": {
        "in quotes": lambda t: f' "{t}".',
        "in capitals": lambda t: f" {t.upper()}",
        "as a field": lambda t: f" Label: {t}",
        "as JSON": lambda t: f' {{"label": "{t}"}}',
        "with spaces": lambda t: " " + t.replace("_", " "),
    },
}


def hedge(target: str, other: str) -> str:
    """Name two answers."""
    return f" The final answer is {target} or {other}."


def miss(target: str, other: str) -> str:
    """Name another answer, and deny the right one."""
    return f" The final answer is not {target} but {other}."


class Oracle:
    """Answers the query whose input ends the prompt."""

    def __init__(self, examples: Sequence[Example], say: Callable[[Example], str]) -> None:
        self._examples, self._say = examples, say

    def __call__(self, prompt: str) -> str:
        def end(one: Example) -> tuple[int, int]:
            at = prompt.rfind(one.input.strip())
            return at + len(one.input) if at >= 0 else -1, len(one.input)

        found = max(self._examples, key=end)
        return self._say(found) if found.input.strip() in prompt else ""


@contextmanager
def served(reply: Callable[[str], str], name: str, provider: str, **args: str) -> Iterator[Model]:
    """Open a provider's model on a server that answers so."""
    with LoopbackServer(reply) as server:
        yield open_model(f"{provider}/{name}", base_url=server.base_url(provider), model_args=args)


@contextmanager
def scripted(reply: Callable[[str], str], name: str) -> Iterator[Model]:
    """Open a model that is a function."""
    yield ScriptedModel(lambda prompt: reply(prompt.text), id=name)


@contextmanager
def local(reply: Callable[[str], str], name: str, *, is_vllm: bool = False) -> Iterator[Model]:
    """Open a local model that answers so."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        saved = save_oracle(Path(folder) / name, lambda text: reply(text) or None)
        if is_vllm:
            yield open_fake_vllm(saved, patch, [END], reasoning_tokens=ROOM)[0]
        else:
            yield open_model(f"hf/{saved}", model_args={"reasoning_tokens": ROOM})


Opener = Callable[[Callable[[str], str], str], AbstractContextManager[Model]]
BACK_ENDS: dict[str, Opener] = {
    "scripted": scripted,
    "hf": local,
    "vllm": partial(local, is_vllm=True),
    "openai chat": partial(served, provider="openai"),
    "openai responses": partial(served, provider="openai", api="responses"),
    "openai completions": partial(served, provider="openai", api="completions"),
    "anthropic": partial(served, provider="anthropic"),
    "google": partial(served, provider="google"),
}


def accuracies(
    task: str, back_end: str, data: str, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Return for each oracle, or those of `names`, the share of a task's queries, without shots and
    with two, that are read as right.
    """
    found = load_examples(find_tasks(task)[0], data=Path(data))
    examples = [*found.queries, *found.pool]
    with tempfile.TemporaryDirectory() as out, ExitStack() as opened:
        models: dict[str, Model] = {}
        for i, (name, (say, _)) in enumerate(oracles(TASKS[task]).items()):
            if names is not None and name not in names:
                continue
            opener = BACK_ENDS[back_end](Oracle(examples, say), f"oracle-{i}")
            models[name] = opened.enter_context(opener)
        run = icl_harness.run(
            task, [*models.values()], out=out, data=data, shots=[0, 2], draws=1, queries=N_QUERIES
        )
        means = run.records().groupby("model")["score"].mean()
        return {name: float(means[model.id]) for name, model in models.items()}


def another(example: Example, kind: str) -> str:
    """Return a wrong answer of the same kind."""
    others = [choice for choice in example.choices if choice != example.target]
    if others:
        return others[0]
    if kind == "number":
        return str(int(example.target.replace(",", "")) + 1)
    return f"{example.target[::-1]} ]" if kind == "brackets" else f"{example.target} zebra"


def oracles(kind: str) -> dict[str, tuple[Callable[[Example], str], float]]:
    """Return for each oracle what it says to an example, and the accuracy that it must get."""

    def dressed(dress: Dress) -> Callable[[Example], str]:
        return lambda example: dress(example.target)

    def wrong(say: Callable[[str, str], str]) -> Callable[[Example], str]:
        return lambda example: say(example.target, another(example, kind))

    dresses = {**EVERY_KIND, **OF_KIND[kind]}
    return {
        **{name: (dressed(dress), 1.0) for name, dress in dresses.items()},
        "hedges": (wrong(hedge), 0.0),
        "says another": (wrong(miss), 0.0),
    }


def main() -> None:
    """Print the table; exit with 1 where an oracle is misread."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder of rows")
    parser.add_argument("--tasks", default=",".join(TASKS))
    args = parser.parse_args()
    os.environ.update(dict.fromkeys(KEYS, "no-key-is-needed"))
    transformers.logging.disable_progress_bar()
    print(f"{'task':36}{'dress':28}" + "".join(f"{b:>{max(len(b), 5) + 2}}" for b in BACK_ENDS))
    n, misread = 0, 0
    for task in args.tasks.split(","):
        found = {back_end: accuracies(task, back_end, args.data) for back_end in BACK_ENDS}
        for name, (_, wanted) in oracles(TASKS[task]).items():
            n += len(found)
            misread += sum(one[name] != wanted for one in found.values())
            cells = [f"{one[name]:{max(len(b), 5) + 2}.3f}" for b, one in found.items()]
            print(f"{task:36}{name:28}" + "".join(cells), flush=True)
    print(f"{misread} of {n} oracles are misread")
    sys.exit(1 if misread else 0)


if __name__ == "__main__":
    main()
