"""The NLL of gold answers beside written ones: what is sent for it, what is stored, and that it is
exact.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import icl_harness
from icl_harness import Answer, Model, Node, Query, Sampling, ScriptedModel, Usage
from icl_harness.errors import SpecError
from icl_harness.report.run import find_record
from tests.conftest import TOY_PROMPTS, parity
from tests.servers import LoopbackServer
from tests.servers.openai_wire import hashed_logprob, pieces
from tests.tiny_models import save_tiny_model

WHY = "{% if rationale %} {{ rationale }} so{% endif %}"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-planted")


class Weighing(Model):
    """A back end that weighs choices; it keeps what it was sent. The NLL of a gold answer is its
    length.
    """

    gold_likelihood = "weighed"

    def __init__(self, fate: str = "ok") -> None:
        self.id = "weighing"
        self.fate = fate  # of what is weighed
        self.sent: list[tuple[str, str, tuple[str, ...]]] = []

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        for query in queries:
            self.sent.append((sampling.scoring, query.id, query.continuations))
            names: Any = {"query_id": query.id, "sample": query.sample}
            usage = Usage(prompt_tokens=10, completion_tokens=2, cost_usd=0.5)
            if sampling.scoring == "generate":
                yield [Answer(text="even", usage=usage, **names)]
            elif self.fate == "ok":
                nats = {query.choices[0]: -float(len(query.continuations[0]))}
                usage = Usage(prompt_tokens=12, completion_tokens=0, cost_usd=0.25)
                yield [Answer(text=query.choices[0], logprobs=nats, usage=usage, **names)]
            else:
                yield [Answer(status="failed", error="no memory", **names)]


def run(model: Model | str, **spec: Any) -> Any:
    fields = {"shots": [0, 2], "draws": 2, "data": "data", "out": "out", **spec}
    return icl_harness.run("toy", model, **fields)


@pytest.mark.usefixtures("toy")
def test_the_gold_answer_is_weighed_as_a_supervised_shot_shows_it() -> None:
    model = Weighing()
    done = run(model, gold_nll=True, modes=["supervised", "unsupervised"])
    records = done.records()
    for row in records.to_dict("records"):
        assert row["gold_nll"] == len(" " + row["target"])
        assert row["answer"] == "even"
    weighed = [sent for sent in model.sent if sent[0] == "choices"]
    assert {len(continuations) for _, _, continuations in weighed} == {1}
    assert len(weighed) == len(model.sent) / 2
    curve = done.curves("gold_nll")
    share = [len(" " + parity(number)) for number in range(100, 112)]
    assert curve["value"].tolist() == pytest.approx([sum(share) / 12] * 4)


@pytest.mark.usefixtures("toy")
def test_nothing_is_weighed_where_it_is_not_asked_for() -> None:
    model = Weighing()
    done = run(model)
    assert {scoring for scoring, _, _ in model.sent} == {"generate"}
    assert done.records()["gold_nll"].isna().all()
    assert "gold_nll" not in done.header["spec"]


@pytest.mark.usefixtures("toy")
def test_both_requests_of_an_answer_are_paid_for_and_a_copy_is_not() -> None:
    done = run(Weighing(), gold_nll=True)
    records = done.records()
    sent = records[~records["reused"]]
    assert set(sent["cost_usd"]) == {0.75}
    assert set(sent["prompt_tokens"]) == {22}
    copies = records[records["reused"]]
    assert len(copies) == 12  # zero-shot prompts of the second draw
    assert set(copies["cost_usd"]) == {0.0}
    assert copies["gold_nll"].notna().all()


@pytest.mark.usefixtures("toy")
def test_samples_of_a_query_are_weighed_once() -> None:
    model = Weighing()
    done = run(model, gold_nll=True, samples=3, temperature=0.7, shots=[2])
    assert sum(scoring == "choices" for scoring, _, _ in model.sent) == 24
    assert sum(scoring == "generate" for scoring, _, _ in model.sent) == 72
    assert done.records()["gold_nll"].notna().all()
    assert done.records()["cost_usd"].sum() == pytest.approx(72 * 0.5 + 24 * 0.25)


@pytest.mark.usefixtures("toy")
def test_an_answer_whose_gold_cannot_be_weighed_is_missing_and_sent_again() -> None:
    model = Weighing(fate="failed")
    done = run(model, gold_nll=True, shots=[2])
    assert set(done.records()["status"]) == {"failed"}
    assert set(done.records()["error"]) == {"no memory"}
    assert {scoring for scoring, _, _ in model.sent} == {"choices"}
    done = run(Weighing(), gold_nll=True, shots=[2])
    assert set(done.records()["status"]) == {"ok"}


def test_queries_that_read_alike_keep_their_own_gold_answers(toy: Path) -> None:
    lines = [f'{{"id": "t{i}", "text": "n 700", "label": "{parity(i)}"}}\n' for i in range(4)]
    (toy / "data/toy/test.jsonl").write_text("".join(lines))
    records = run(Weighing(), gold_nll=True).records()
    assert len(records) == 16
    assert (records["gold_nll"] == records["target"].str.len() + 1).all()


def plain_nll(folder: Path, prompt: str, gold: str) -> float:
    """Return the NLL of a gold answer by one forward of the whole text, from where its ids leave
    those of the prompt.
    """
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    model = tf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    before, ids = tokenizer(prompt)["input_ids"], tokenizer(prompt + gold)["input_ids"]
    start = next(
        (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before)
    )
    with torch.inference_mode():
        nats = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return -sum(float(nats[i - 1, ids[i]]) for i in range(start, len(ids)))


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ["byte_bpe", "wordpiece"])
def test_local_models_give_what_a_plain_forward_of_the_whole_text_gives(
    toy: Path, tokenizer: str
) -> None:
    source = TOY_PROMPTS.replace("->{% if", f"->{WHY}{{% if")
    (toy / "prompts/toy.jinja").write_text(source)
    lines = [
        f'{{"id": "t{i}", "text": "n {i}", "label": "{parity(i)}", "why": "{i} halves"}}\n'
        for i in range(100, 103)
    ]
    (toy / "data/toy/test.jsonl").write_text("".join(lines))
    folder = save_tiny_model(toy / "model", "llama", tokenizer)
    done = run(f"hf/{folder}", gold_nll=True)
    records = done.records()
    assert len(records) == 12
    for row in records.to_dict("records"):
        cell = {"shots": row["shots"], "draw": row["draw"]}
        prompt = find_record(done.path, row["query_id"], cell)[0].text
        number = row["query_id"].removeprefix("t")
        gold = f" {number} halves so {row['target']}"
        assert row["gold_nll"] == pytest.approx(plain_nll(folder, prompt, gold), abs=1e-3)
    assert records["gold_nll"].min() > 1


@pytest.mark.slow
@pytest.mark.usefixtures("toy", "keys")
def test_completions_that_echo_prompts_weigh_gold_answers_too() -> None:
    with LoopbackServer(lambda prompt: " even") as server:
        done = run(
            "openai/some-model", base_url=server.base_url("openai"), gold_nll=True,
            model_args={"api": "completions"},
        )  # fmt: skip
        n_requests = len(server.requests)
    records = done.records()
    assert n_requests == 2 * (12 + 24)  # zero-shot prompts are sent once
    for row in records.to_dict("records"):
        prompt = find_record(
            done.path, row["query_id"], {"shots": row["shots"], "draw": row["draw"]}
        )
        before, told = pieces(prompt[0].text), pieces(f"{prompt[0].text} {row['target']}")
        steps = range(len(before), len(told))
        nats = sum(hashed_logprob("".join(told[:i]), told[i]) for i in steps)
        assert row["gold_nll"] == pytest.approx(-nats)


@pytest.mark.parametrize(
    "model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "baseline/logreg", "baseline/knn"]
)
@pytest.mark.usefixtures("toy", "keys")
def test_back_ends_without_likelihoods_are_refused_in_one_line_that_says_which_have_them(
    model: str,
) -> None:
    with pytest.raises(SpecError, match=f"^{model} tells no log-likelihood") as caught:
        run(model, gold_nll=True)
    for word in ("hf/", "vllm/", "api=completions", "baseline/bayes", "--gold-nll"):
        assert word in str(caught.value)
    with pytest.raises(SpecError, match="scripted tells no log-likelihood"):
        run(ScriptedModel(lambda prompt: "even"), gold_nll=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scoring": "choices"}, "--scoring choices stores the NLL of the gold answer by itself"),
        ({"scoring": "choices-normalised"}, "Leave it out"),
        ({"queries_per_request": 2}, "--queries-per-request"),
    ],
)
@pytest.mark.usefixtures("toy")
def test_gold_nll_is_refused_where_it_would_do_nothing(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match="--gold-nll") as caught:
        run(Weighing(), gold_nll=True, **options)
    assert says in str(caught.value)


@pytest.mark.usefixtures("toy")
def test_a_run_without_it_does_not_go_on_with_it() -> None:
    run(Weighing())
    with pytest.raises(icl_harness.IclError, match="gold_nll is null there and true here"):
        run(Weighing(), gold_nll=True)


def test_exact_learners_give_the_probability_of_each_label_with_every_answer(
    tmp_path: Path,
) -> None:
    done = icl_harness.run(
        "dialects", "baseline/bayes", shots=[0, 8], draws=2, queries=20, out=tmp_path / "out"
    )
    records = done.records()
    assert records["gold_nll"].notna().all()
    zero, eight = (records[records["shots"] == k]["gold_nll"].mean() for k in (0, 8))
    assert eight < zero < math.log(4) + 0.5
    right = records["score"] == 1
    assert (records["gold_nll"][right] <= math.log(4) + 1e-9).all()  # the likeliest of 4 labels
