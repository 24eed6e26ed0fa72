"""Several answers to a query: each is asked for, kept, and drawn from a seed of its own."""

import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.errors import AccountError, SpecError
from tests.conftest import N_QUERIES
from tests.models.api.apis import KEY
from tests.servers import LoopbackServer

KEYS = ["shots", "draw", "query_id", "sample"]


def dialects(out, samples, **options):
    given = {"modes": ["unsupervised"], "shots": [0, 4], "draws": 2, "queries": 8, **options}
    return icl_harness.run("dialects", "demo", out=out, temperature=1, samples=samples, **given)


@pytest.mark.slow
def test_every_query_gets_so_many_answers_and_more_begin_with_fewer(tmp_path) -> None:
    three = dialects(tmp_path / "three", 3).records().set_index(KEYS)
    two = dialects(tmp_path / "two", 2).records().set_index(KEYS)
    counts = three.groupby(KEYS[:3]).size()
    assert len(counts) == 2 * 2 * 8
    assert set(counts) == {3}
    assert set(three.index.get_level_values("sample")) == {0, 1, 2}
    assert (three.loc[two.index, "answer"] == two["answer"]).all()
    assert three.groupby(KEYS[:3])["answer"].nunique().max() > 1, "no two samples differ"


@pytest.mark.usefixtures("toy")
def test_a_resumed_run_asks_for_no_sample_twice() -> None:
    prompts = []

    def reply(prompt) -> str:
        prompts.append(prompt)
        if len(prompts) == 30:
            raise AccountError("the account is empty")
        return " even"

    options = {"shots": [0, 2], "draws": 1, "data": "data", "temperature": 1.0, "samples": 4}
    with pytest.raises(AccountError):
        icl_harness.run("toy", ScriptedModel(reply), out="out", **options)
    run = icl_harness.run("toy", ScriptedModel(reply), out="out", **options)
    asked = {(prompt.node.hash, prompt.query.id, prompt.query.sample) for prompt in prompts}
    assert len(asked) == len(run.records()) == 2 * 4 * N_QUERIES
    assert len({prompt.query.seed for prompt in prompts}) == 4 * N_QUERIES


@pytest.mark.usefixtures("toy")
def test_a_provider_is_asked_for_each_sample(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackServer() as server:
        run = icl_harness.run(
            "toy",
            "openai/gpt-5.6",
            base_url=server.base_url("openai"),
            model_args={"priced_as": "openai/gpt-5.6"},
            out="out",
            shots=[0, 2],
            draws=1,
            data="data",
            temperature=0.7,
            samples=3,
        )
        n_asked = len(server.bill)
    assert n_asked == len(run.records()) == 2 * 3 * N_QUERIES


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("demo", {"temperature": 0}, "at temperature 0 gives the same answer each time"),
        ("demo", {"temperature": 1, "scoring": "choices"}, "needs written answers"),
        ("demo", {"temperature": 1, "queries_per_request": 2}, "exclude each other"),
        ("baseline/knn", {"temperature": 1}, "--samples does nothing for it"),
    ],
)
def test_what_samples_cannot_do_is_refused_in_one_line(model, options, words) -> None:
    with pytest.raises(SpecError, match=words) as refused:
        icl_harness.run("dialects", model, samples=3, **options)
    assert "\n" not in str(refused.value)
