"""Local models through the command line: precision, keys and values kept between runs, gold
likelihoods, notes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import icl_harness
from icl_harness.cli.app import main
from icl_harness.models.hf import HfModel
from icl_harness.models.local import kv_disk
from icl_harness.report.run import find_record
from tests.tiny_models import save_tiny_model

pytestmark = pytest.mark.slow

GRID = (
    "run", "toy", "--model", "hf/model", "--shots", "0,2,8,20", "--draws", "2", "--data", "data",
    "--scoring", "choices",
)  # fmt: skip


@pytest.fixture
def icl(toy, capfd, monkeypatch):
    """Run the command line in the toy's directory, where `model` is a tiny one; return (exit code,
    output, errors).
    """
    save_tiny_model(toy / "model")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capfd.readouterr()

    return call


def test_the_gold_choices_likelihood_is_in_the_records_of_copied_answers_too(icl) -> None:
    assert icl(*GRID, "--out", "out")[0] == 0
    run = icl_harness.Run("out")
    records = run.records()
    assert records["gold_nll"].notna().all()
    assert records["reused"].any()
    tokenizer, model = (
        AutoTokenizer.from_pretrained("model"),
        AutoModelForCausalLM.from_pretrained("model").eval(),
    )
    gold = {f"test{i}": ("even", "odd")[i % 2] for i in range(100, 112)}
    for row in records[records["query_id"].isin(["test100", "test103"])].to_dict("records"):
        cell = {name: row[name] for name in ("shots", "draw")}
        text = find_record(Path("out"), row["query_id"], cell)[0].text
        whole, before = (
            tokenizer(text + end)["input_ids"] for end in (f" {gold[row['query_id']]}", "")
        )
        with torch.inference_mode():
            told = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        nats = sum(told[i - 1, whole[i]] for i in range(len(before), len(whole)))
        assert row["gold_nll"] == pytest.approx(-float(nats), abs=2e-4)
    generated = icl_harness.run(
        "toy", "hf/model", shots=[0], draws=1, data="data", out="generated"
    ).records()
    assert generated["gold_nll"].isna().all()


def test_a_second_run_with_a_kv_cache_prefills_nothing_again_and_tells_the_same(
    icl, monkeypatch
) -> None:
    monkeypatch.setattr(kv_disk, "BLOCK", 16)
    opened = []
    keep = HfModel.close

    async def closing(self) -> None:
        opened.append(self.n_prefilled)
        await keep(self)

    monkeypatch.setattr(HfModel, "close", closing)
    for out in ("first", "second"):
        assert icl(*GRID, "--out", out, "--kv-cache", "kept", "--kv-cache-gb", "0.5")[0] == 0
    assert 0 < opened[1] < opened[0] / 3
    first, second = (icl_harness.Run(out).records() for out in ("first", "second"))
    assert np.allclose(first["gold_nll"], second["gold_nll"], atol=1e-4)
    assert Path("first/curves.csv").read_bytes() == Path("second/curves.csv").read_bytes()
    assert list(Path("kept").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("extra", "rule"),
    [
        (("--kv-cache-gb", "3"), "--kv-cache-gb limits what --kv-cache keeps"),
        (
            ("--kv-cache", "kept", "--kv-cache-gb", "0"),
            "--kv-cache-gb is 0; it takes a number above 0",
        ),
        (
            ("--model-arg", "dtype=float31"),
            "--model-arg dtype=float31: it must be auto, float32, float16 or bfloat16",
        ),
        (
            ("--model-arg", "dtype=float32", "--model-arg", "dtype=float32"),
            "--model-arg dtype is given twice",
        ),
        (
            ("--model-arg", "device_map={"),
            "--model-arg device_map={: it must be a word, or a JSON object",
        ),
    ],
)
def test_a_wrong_option_of_local_models_is_one_line(icl, extra, rule) -> None:
    code, _, err = icl(*GRID, "--out", "out", *extra)
    assert (code, len(err.splitlines())) == (2, 1)
    assert rule in err
    assert not Path("out").exists()


def test_a_kv_cache_without_a_model_that_fills_it_is_refused(icl) -> None:
    code, _, err = icl(
        "run",
        "toy",
        "--model",
        "baseline/knn",
        "--data",
        "data",
        "--kv-cache",
        "kept",
        "--shots",
        "1",
    )
    assert code == 2
    assert "--kv-cache is for hf/ models, and none is named" in err


def test_precision_is_part_of_the_run_and_its_folder_says_how_prefixes_branch(icl) -> None:
    assert icl(*GRID, "--out", "out", "--model-arg", "dtype=bfloat16")[0] == 0
    header = json.loads(Path("out/run.json").read_text())
    assert header["spec"]["model_args"] == {"dtype": "bfloat16"}
    assert header["models"]["hf/model"]["dtype"] == "bfloat16"
    assert header["models"]["hf/model"]["branches"] == "shared"
    code, _, err = icl(*GRID, "--out", "out")
    assert code == 2
    assert "another spec: model_args" in err


def test_a_window_that_is_held_short_is_said_under_the_table(icl, toy) -> None:
    save_tiny_model(toy / "long", "phi3_longrope")
    code, out, _ = icl(*[part.replace("hf/model", "hf/long") for part in GRID], "--out", "out")
    assert code == 0
    assert (
        "hf/long: window held to 64 tokens; beyond, its positions change with the prompt's length"
        in out
    )
    assert "shots used" in out


def test_a_prompt_that_went_inside_a_chat_template_is_shown_with_a_word_of_that(icl) -> None:
    tokenizer = AutoTokenizer.from_pretrained("model")
    tokenizer.chat_template = "{% for m in messages %}user: {{ m.content }}\nassistant:{% endfor %}"
    tokenizer.save_pretrained("model")
    assert icl(*GRID, "--out", "out", "--model-arg", "chat_template=true")[0] == 0
    assert "sent inside the model's chat template" in icl("show", "out", "--query", "test100")[2]
    assert icl(*GRID, "--out", "plain")[0] == 0
    assert "chat template" not in icl("show", "plain", "--query", "test100")[2]


def test_a_run_on_copies_says_so_under_its_table(icl, monkeypatch) -> None:
    from icl_harness.models.local import kv, ways
    from icl_harness.models.local.copied import CopiedPrefix

    monkeypatch.setattr(
        ways, "open_prefix", lambda model: (CopiedPrefix(kv.Runner(model)), "its layers are odd")
    )
    code, out, _ = icl(*GRID, "--out", "out")
    assert code == 0
    assert "hf/model: exact, but slower, as its prefixes are copied (its layers are odd)" in out


def test_the_bundled_model_on_another_task_than_its_own_says_that_it_guesses(icl) -> None:
    """In one line, and no refusal."""
    few = ("--shots", "0", "--draws", "1", "--queries", "4")
    code, out, _ = icl("run", "toy", "--model", "demo", *few, "--data", "data", "--out", "toy")
    assert code == 0
    said = " ".join(out.split())
    assert "the bundled model knows only dialects, so its answers to toy say nothing" in said
    code, out, _ = icl("run", "dialects", "--model", "demo", *few, "--out", "dialects")
    assert code == 0
    assert "knows only dialects" not in out
