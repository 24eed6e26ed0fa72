"""Models that are fine-tuned on the shots, against plain transformers and against themselves."""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
import transformers

import icl_harness
from icl_harness.errors import ModelError, SpecError, TemplateError
from icl_harness.models import open_model
from icl_harness.models.base import Sampling
from icl_harness.models.local.lora import (
    Batch,
    Lesson,
    Tuner,
    _losses,
    common_start,
    in_batches,
    plain_attention,
)
from icl_harness.models.local.provider import DEMO_FOLDER
from icl_harness.models.local.recipe import Recipe
from icl_harness.models.workers import _whole_path
from icl_harness.plan.asker import make_plan
from icl_harness.prompts.tree import Node, Query, Shot
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from tests.models.local.chats import TEMPLATES, save_chatty

pytestmark = pytest.mark.usefixtures("one_thread")

PREAMBLE = "Two words, then the answer.\n"
WORDS = ["hilo", "hefu", "zeta", "mira", "kolo", "banu"]
CHOOSING = Sampling(scoring="choices")


def rule(text: str) -> str:
    """The label that the first word alone decides."""
    return "north" if text.split()[0] in WORDS[:3] else "south"


PAIRS = [" ".join(pair) for pair in itertools.permutations(WORDS, 2)]


def node_of(texts, label=rule) -> Node:
    """Shots as a fine-tuned model has them: what is asked and the answer are two edges each."""
    node = Node(PREAMBLE, mode="supervised")
    for i, text in enumerate(texts):
        shot = Shot(id=f"s{i}", input=text, target=label(text))
        node = node.child(f"{text} ->").child(f" {label(text)}\n", shot)
    return node


def queries_of(texts) -> list[Query]:
    labels = ("north", "south")
    return [
        Query(
            id=text,
            text=f"{text} ->",
            input=text,
            choices=labels,
            continuations=tuple(f" {label}" for label in labels),
        )
        for text in texts
    ]


def ask(model, node, texts=tuple(PAIRS[:4]), sampling=CHOOSING):
    async def collect():
        batches = [some async for some in model.answers(node, queries_of(texts), sampling)]
        return list(itertools.chain.from_iterable(batches))

    return asyncio.run(collect())


def weights_of(answers) -> list[dict[str, float]]:
    return [dict(answer.logprobs or {}) for answer in answers]


@pytest.fixture(scope="module")
def sft():
    """The bundled model, fine-tuned at the middle rate."""
    return open_model("sft/demo")


def test_without_shots_it_is_the_model_itself_before_and_after_trainings(sft) -> None:
    plain = weights_of(ask(open_model("demo"), node_of([])))
    state = {name: one.clone() for name, one in sft._base._model.state_dict().items()}
    assert weights_of(ask(sft, node_of([]))) == plain
    assert weights_of(ask(sft, node_of(PAIRS[:4]))) != plain
    assert weights_of(ask(sft, node_of([]))) == plain
    after = sft._base._model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], one) for name, one in state.items())


@pytest.mark.slow
def test_the_same_shots_make_the_same_model_whatever_was_trained_before(sft) -> None:
    chance = torch.random.get_rng_state()
    first, other = node_of(PAIRS[:4]), node_of(PAIRS[4:8])
    answers = weights_of(ask(sft, first))
    assert weights_of(ask(sft, other)) != answers
    assert weights_of(ask(sft, first)) == answers
    assert weights_of(ask(open_model("sft/demo"), first)) == answers
    assert torch.equal(torch.random.get_rng_state(), chance)


def test_one_training_serves_all_calls_and_is_told_once(sft) -> None:
    node = node_of(PAIRS[8:12])
    calls = [ask(sft, node), ask(sft, node), ask(sft, node, sampling=Sampling(max_tokens=3))]
    told = [[answer.training is not None for answer in answers] for answers in calls]
    assert told == [[True, False, False, False], [False] * 4, [False] * 4]


@pytest.mark.slow
def test_it_learns_what_the_shots_show() -> None:
    model = open_model("sft/demo", model_args={"learning_rates": "3e-3", "epochs": "60"})
    shown = PAIRS[::4]
    node = node_of(shown)
    before = ask(model, node_of([]), shown)
    answers = ask(model, node, shown)
    n_right = [sum(a.text == rule(a.query_id) for a in some) for some in (before, answers)]
    assert n_right[1] >= 7 > n_right[0]
    chosen = {answer.query_id: answer.text for answer in answers}
    for answer in ask(model, node, shown, Sampling(max_tokens=8, stop=("\n",))):
        assert answer.text.strip() == chosen[answer.query_id]


def test_a_shot_is_trained_on_as_it_is_asked(sft) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_FOLDER)
    node = node_of(PAIRS[:3])
    for text, same in zip(PAIRS, sft._lessons(node), strict=False):
        (lesson,) = same
        prompt = tokenizer(f"{PREAMBLE}{text} ->")["input_ids"]
        whole = tokenizer(f"{PREAMBLE}{text} -> {rule(text)}\n")["input_ids"]
        assert [*lesson.ids, lesson.reads[-1][1]] == whole
        n = len(prompt)
        assert list(lesson.reads) == list(enumerate(whole[n:], start=n - 1))


def test_the_loss_is_that_of_the_answers_tokens_behind_whole_prompts(sft) -> None:
    lessons = [same[0] for same in sft._lessons(node_of(PAIRS[:5]))]
    plain = transformers.AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype=torch.float32)
    expected = []
    for lesson in lessons:
        with torch.inference_mode():
            logprobs = plain(input_ids=torch.tensor([lesson.ids])).logits[0].log_softmax(-1)
        expected += [-float(logprobs[place, token]) for place, token in lesson.reads]
    assert weights_of(ask(sft, node_of([])))  # takes the matrices out
    for n_shared in (0, 3, common_start(lessons)):
        runner = sft._base.runner
        with torch.no_grad(), plain_attention(runner.model):
            found = _losses(runner, Batch(lessons, n_shared))
        assert found.tolist() == pytest.approx(expected, abs=2e-5)


def test_what_all_begin_with_is_fed_once_with_the_same_gradient(sft) -> None:
    tuner, lessons = sft._tuner, sft._lessons(node_of(PAIRS[:5]))
    next(tuner._fit(lessons, 1e-3, 0))
    some = [same[0] for same in lessons]
    assert common_start(some) >= 3
    found = []
    for n_shared in (0, common_start(some)):
        weights = [one for one in tuner._adapted.parameters() if one.requires_grad]
        with plain_attention(sft._base.runner.model):
            _losses(sft._base.runner, Batch(some, n_shared)).mean().backward()
        found.append(torch.cat([one.grad.flatten() for one in weights]))
        for one in weights:
            one.grad = None
    sft._learned = None
    assert float(found[0].norm()) > 0
    assert torch.allclose(*found, atol=1e-6)


@pytest.mark.slow
def test_from_20_different_shots_on_the_rate_is_the_best_on_a_fifth_of_them() -> None:
    model = open_model("sft/demo", model_args={"learning_rates": "1e-5,3e-3", "epochs": "1"})
    node = node_of(PAIRS[:20])
    training = ask(model, node)[0].training
    assert (training.held_out, training.n_shots, training.epochs) == (4, 20, 7)
    assert training.losses.keys() == {1e-5, 3e-3}
    assert training.learning_rate == min(training.losses, key=training.losses.__getitem__) == 3e-3
    assert training.tokens == model.n_training_tokens(node) > training.choice_tokens > 0
    assert training.seconds > training.choice_seconds > 0
    few = ask(model, node_of(PAIRS[:19]))[0].training
    assert (few.held_out, few.losses, few.choice_tokens) == (0, {}, 0)
    assert few.learning_rate == 1e-5  # the middle one


def test_the_fifth_holds_no_shot_that_is_learned_from() -> None:
    recipe = Recipe()
    shots = [[f"shot {i}"] * 3 for i in range(20)]
    learned, held = recipe.parts(shots, 7)
    assert (len(learned), len(held)) == (16, 4)
    assert sorted(learned + held) == sorted(shots)
    assert recipe.parts(shots, 7) == (learned, held) != recipe.parts(shots, 8)
    assert recipe.parts(shots[:19], 7) == (shots[:19], [])
    assert Recipe(learning_rates=(1e-3,)).parts(shots, 7) == (shots, [])


@pytest.mark.parametrize(
    ("n_shots", "passes"), [(1, 20), (4, 20), (8, 20), (15, 10), (64, 10), (1000, 10)]
)
def test_few_shots_are_passed_over_more_often(n_shots, passes) -> None:
    assert Recipe().passes(n_shots) == passes


@pytest.mark.parametrize("level", [False, True], ids=["padded", "level"])
def test_batches_hold_every_shot_once_those_of_like_length_together(level) -> None:
    import numpy as np

    lessons = [Lesson([0] * (3 + i % 5), [(2, i)]) for i in range(83)]
    batches = in_batches(lessons, np.random.default_rng(0), level=level)
    assert sorted(lesson.reads[0][1] for batch in batches for lesson in batch) == list(range(83))
    assert max(map(len, batches)) == 8
    lengths = [{len(lesson.ids) for lesson in batch} for batch in batches]
    assert max(map(len, lengths)) <= (1 if level else 4)


def test_plans_and_trainings_count_the_same_tokens(sft) -> None:
    tuner, lessons = sft._tuner, sft._lessons(node_of(PAIRS[:6]))
    fed = []
    shared = common_start([same[0] for same in lessons])
    for batch in tuner._batches(lessons, 0):
        fed.append(shared + sum(len(one.ids) - shared for one in batch.lessons))
    assert tuner.n_tokens(lessons, 0) == (0, sum(fed))
    assert len(fed) == 20


def test_a_shot_longer_than_the_window_counts_as_too_long_and_many_shots_do_not() -> None:
    model = open_model("sft/demo", model_args={"context_window": "24"})
    assert model.count_tokens(node_of(PAIRS)) == model.count_tokens(node_of([])) < 24
    long = node_of([*PAIRS[:2], " ".join(WORDS * 6)])
    assert model.count_tokens(long) > 24
    assert model.count_tokens(long.parent.parent) < 24


def test_diverging_ends_in_one_line() -> None:
    model = open_model("sft/demo", model_args={"learning_rates": "1e30"})
    with pytest.raises(ModelError, match=r"sft/demo cannot be fine-tuned: .*learning_rates\.$"):
        ask(model, node_of(PAIRS[:2]))
    assert weights_of(ask(model, node_of([]))) == weights_of(ask(open_model("demo"), node_of([])))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"epoch": "3"}, "takes .*chat_template.*epochs.*learning_rates.*rank.*epochs"),
        ({"learning_rates": "0,1"}, "learning_rates=0,1: it must be numbers above 0 with commas"),
        ({"learning_rates": "x"}, "it must be numbers above 0 with commas"),
        ({"learning_rates": "inf"}, "it must be numbers above 0 with commas"),
        ({"epochs": "0"}, "epochs=0: it must be a whole number from 1 up"),
        ({"rank": "1.5"}, "rank=1.5: it must be a whole number from 1 up"),
        ({"adapter": "x"}, "it trains an adapter of its own"),
    ],
    ids=["unknown", "zero", "word", "infinite", "no epochs", "half a rank", "adapter"],
)
def test_options_that_cannot_be_are_refused(args, message) -> None:
    with pytest.raises(ModelError, match=message):
        open_model("sft/demo", model_args=args)


@pytest.mark.parametrize("id", ["sft/vllm/x", "sft/openai/gpt-5", "sft/hf", "sft/demo/x", "sft/x"])
def test_only_local_models_are_fine_tuned(id) -> None:
    with pytest.raises(ModelError, match=f"{id} cannot be fine-tuned here"):
        open_model(id)


def test_without_peft_one_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs the Python package peft: pip install 'icl-harn"):
        open_model("sft/hf/nowhere")


def test_a_worker_is_told_the_whole_path_of_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    assert _whole_path("sft/hf/model") == f"sft/hf/{tmp_path / 'model'}"
    assert _whole_path("sft/demo") == "sft/demo"


# ------------------------------------------------------------------- whole runs of the toy task


def spec_of(**options) -> Spec:
    given = {"tasks": "toy", "models": "sft/demo", "shots": [0, 4], "data": "data", **options}
    return Spec.from_dict(given, "spec")


def go(out, **options):
    options = {"shots": [0, 4], "draws": 2, "data": "data", "scoring": "choices", **options}
    return icl_harness.run("toy", options.pop("model", "sft/demo"), out=out, **options)


def trainings(run) -> list[dict[str, str]]:
    with (run.path / "training.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("toy")
def test_a_run_starts_from_the_model_itself_and_notes_each_training() -> None:
    run = go("both", model=["demo", "sft/demo"])
    records = run.records()
    plain, tuned = (records[records["model"] == name] for name in ("demo", "sft/demo"))
    for name in ("answer", "gold_nll", "prompt_tokens"):
        at_0 = [list(some[some["shots"] == 0][name]) for some in (plain, tuned)]
        assert at_0[0] == at_0[1]
    of_4 = tuned[tuned["shots"] == 4]
    assert set(of_4["shots_used"]) == {4}
    # it is asked without shots, so that prompts are as long at any shot count
    assert list(of_4["prompt_tokens"]) == list(tuned[tuned["shots"] == 0]["prompt_tokens"])
    rows = trainings(run)
    cells = [(row["model"], row["shots"], row["draw"], row["shots_used"]) for row in rows]
    assert cells == [("sft/demo", "4", "0", "4"), ("sft/demo", "4", "1", "4")]
    again = go("both", model=["demo", "sft/demo"])
    assert again.records()["answer"].equals(records["answer"])
    assert trainings(again) == rows


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_a_run_that_was_stopped_while_it_trained_trains_again(monkeypatch) -> None:
    whole = go("whole", draws=1)
    train = Tuner.train

    def stopped(self, lessons, seed):
        steps = train(self, lessons, seed)
        for _ in range(3):
            yield next(steps)
        raise RuntimeError("power cut")

    monkeypatch.setattr(Tuner, "train", stopped)
    with pytest.raises(ModelError, match="cannot be fine-tuned: power cut"):
        go("stopped", draws=1)
    monkeypatch.setattr(Tuner, "train", train)
    resumed = go("stopped", draws=1)
    columns = ["query_id", "shots", "answer", "gold_nll"]
    assert resumed.records()[columns].equals(whole.records()[columns])
    assert len(trainings(resumed)) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_in_reinforced_mode_it_learns_its_own_answers() -> None:
    options = {"modes": ["reinforced"], "shots": [2], "draws": 1, "pool": 12, "queries": 4}
    run = icl_harness.run("dialects", "sft/demo", out="own", **options)
    (row,) = trainings(run)
    assert (row["mode"], row["shots_used"]) == ("reinforced", "2")
    assert {len(ids) for ids in run.records(shot_ids=True)["shot_ids"]} == {2}


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_calibration_weighs_the_trained_model_and_a_training_is_noted_once() -> None:
    run = go("calibrated", scoring="choices-calibrated", draws=1)
    assert len(trainings(run)) == 1
    likelihoods = go("plain", draws=1).records()["gold_nll"]
    assert run.records()["gold_nll"].equals(likelihoods)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_a_plan_tells_the_tokens_of_trainings() -> None:
    experiment = Experiment(spec_of(draws=2))
    plan = asyncio.run(make_plan(experiment, Path("none")))
    assert {row.fits for row in plan.rows} == {True}
    (note,) = [note for note in plan.notes if "training" in note]
    run = go("run")
    fed = sum(int(row["tokens"]) for row in trainings(run))
    assert note.startswith(f"sft/demo: 2 trainings on {fed:,} tokens come on top of the prompts")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ["unsupervised"]}, "sft/demo learns from answers, and the shots of unsuperv"),
        ({"variants": "nearest=BM25"}, "queries of a cell, and variant nearest=BM25 shows"),
        ({"variants": "redraw"}, "trained once for all queries of a cell, and variant redraw"),
        ({"variants": "filler"}, "learns from examples, and variant filler shows none"),
        ({"queries_per_request": 2}, "Leave out --queries-per-request or the model"),
        ({"scoring": "choices-pmi"}, "Use --scoring choices, choices-per-byte or choices-calib"),
    ],
    ids=["unsupervised", "bm25", "redraw", "filler", "grouped", "pmi"],
)
def test_what_no_training_gives_is_refused(options, message) -> None:
    with pytest.raises(SpecError, match=message):
        Experiment(spec_of(**options))


@pytest.mark.usefixtures("toy")
def test_a_template_whose_shots_do_not_begin_as_queries_is_refused() -> None:
    template = Path("prompts/toy.jinja")
    template.write_text(
        template.read_text().replace("{{ input }} ->{% if", "no. {{ input }} ->{% if")
    )
    with pytest.raises(
        TemplateError, match="what is asked and the answer, which a model is fine-tun"
    ):
        Experiment(spec_of())


@pytest.mark.slow
def test_in_a_chat_a_shot_is_trained_on_as_the_template_writes_it(tmp_path) -> None:
    folder = save_chatty(tmp_path / "model", TEMPLATES["chatml"])
    model = open_model(f"sft/hf/{folder}", model_args={"learning_rates": "1e-3"})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    node = Node("Be brief.", role="system", mode="supervised")
    for i, text in enumerate(PAIRS[:3]):
        shot = Shot(id=str(i), input=text, target=rule(text))
        node = node.child(text, role="user").child(rule(text), shot, role="assistant")
    for text, same in zip(PAIRS, model._lessons(node), strict=False):
        (lesson,) = same
        asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        said = [*asked, {"role": "assistant", "content": rule(text)}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(said, tokenize=False)
        learned = [token for _, token in lesson.reads]
        assert whole.startswith(tokenizer.decode([*lesson.ids, learned[-1]]))
        # the answer, and the first token of what ends its turn
        assert whole[len(prompt) :].startswith(tokenizer.decode(learned))
        assert tokenizer.decode(learned[:-1]) == rule(text)
    assert len(ask(model, node_of(PAIRS[:2]))) == 4
