"""Keys and values kept between runs: found again by the same tokens and model only, within the size, damaged or not."""

import os

import numpy as np
import pytest

from icl_harness.errors import ModelError
from icl_harness.models import kv_disk
from icl_harness.models.base import KvCache, Sampling
from icl_harness.models.hf import HfModel
from icl_harness.prompts import Node
from tests.models.test_hf import ask, grow, queries_of, shots
from tests.tiny_models import save_tiny_model

BLOCK = 16


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(kv_disk, "BLOCK", BLOCK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model"), "gemma3"))


def lines(n: int) -> list[str]:
    """Shots that end where no token goes on into the next."""
    return [shot.replace("\n\n", "\n") for shot in shots(n)]


def opened(folder, cache, **args) -> HfModel:
    return HfModel(folder, kv_cache=KvCache(folder=str(cache), most_gb=args.pop("most_gb", 1.0)), **args)


def told(model, node):
    answers = ask(
        model, node, queries_of(3, choices=("a", "b"), continuations=(" a b", " c")), Sampling(scoring="choices")
    )
    texts = ask(model, node, queries_of(3), Sampling(max_tokens=5))
    weights = [nats for a in answers.values() for nats in a.logprobs.values()]
    return np.round(weights, 3).tolist(), [a.text for a in texts.values()]


def test_tomorrows_queries_do_not_prefill_todays_lines(folder, tmp_path):
    today, node = opened(folder, tmp_path), Node("Label the reviews.\n")
    found = []
    for k in (1, 4, 9):
        node = grow(node, lines(k)[len(node.path) - 1 :])
        found.append((node, told(today, node)))
    n = today.count_tokens(node)
    assert today.n_prefilled == n
    assert len(list(tmp_path.glob("*.safetensors"))) == n // BLOCK
    tomorrow = opened(folder, tmp_path)
    assert told(tomorrow, node) == found[-1][1]
    assert tomorrow.n_prefilled == n % BLOCK
    longer = grow(node, lines(14)[9:])
    assert told(tomorrow, longer) == told(HfModel(folder), longer)
    assert tomorrow.n_prefilled == tomorrow.count_tokens(longer) - n + n % BLOCK
    for at, answers in found:  # back to shorter prompts, in memory or from the disk
        assert told(opened(folder, tmp_path), at) == answers


def test_another_path_precision_or_model_finds_only_what_is_its_own(folder, tmp_path):
    node = grow(Node("Label the reviews.\n"), lines(6))
    told(opened(folder, tmp_path), node)
    other = opened(folder, tmp_path)
    turned = grow(Node("Label the reviews.\n"), [*lines(3), *lines(6)[4:]])
    assert told(other, turned) == told(HfModel(folder), turned)
    assert 0 < other.n_prefilled < other.count_tokens(turned)
    half = opened(folder, tmp_path, dtype="bfloat16")
    told(half, node)
    assert half.n_prefilled == half.count_tokens(node)
    stranger = opened(str(save_tiny_model(tmp_path / "other", "gemma3", seed=1)), tmp_path)
    told(stranger, node)
    assert stranger.n_prefilled == stranger.count_tokens(node)


def test_a_damaged_or_missing_block_is_computed_again(folder, tmp_path):
    node = grow(Node("Label the reviews.\n"), lines(6))
    expected = told(opened(folder, tmp_path), node)
    files = sorted(tmp_path.glob("*.safetensors"), key=lambda file: int(file.name.split("-")[1]))
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[3].unlink()
    again = opened(folder, tmp_path)
    assert told(again, node) == expected
    assert again.n_prefilled == again.count_tokens(node) - BLOCK
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {file.name for file in files}


def test_the_folder_stays_within_its_size_and_the_path_read_last_keeps_its_beginning(folder, tmp_path):
    old, new = (grow(Node(f"{name} reviews.\n"), lines(5)) for name in ("Label the", "Now judge these"))
    told(opened(folder, tmp_path), old)
    files = {file: file.stat().st_size for file in tmp_path.glob("*.safetensors")}
    for file in files:
        os.utime(file, (1, 1))
    size, n_blocks = max(files.values()), len(files) + 1
    model = opened(folder, tmp_path, most_gb=size * n_blocks / 1e9)
    told(model, new)
    there = list(tmp_path.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in there) <= size * n_blocks
    assert len(set(there) - set(files)) == model.count_tokens(new) // BLOCK
    tight = opened(folder, tmp_path, most_gb=3.5 * size / 1e9)
    longer = grow(new, lines(12)[5:])
    told(tight, longer)
    ends = sorted(int(file.name.split("-")[1]) for file in tmp_path.glob("*.safetensors"))
    assert ends[:3] == [BLOCK, 2 * BLOCK, 3 * BLOCK]
    after = opened(folder, tmp_path)
    told(after, new)
    assert after.n_prefilled < after.count_tokens(new)


def test_the_names_are_those_of_the_ids_up_to_a_blocks_end():
    blocks = kv_disk.Blocks(KvCache(folder="."), {"weights": 1})
    a, b = np.arange(50, dtype=np.int32), np.arange(50, dtype=np.int32)
    b[20] = 7
    ours, theirs = ([file.name for _, file in blocks._files(ids)] for ids in (a, b))
    assert ours[0] == theirs[0]
    assert ours[1] != theirs[1]
    assert ours[2] != theirs[2]  # the same tokens behind others are other keys and values
    assert len(ours) == 50 // BLOCK


def test_a_folder_that_cannot_be_made_is_one_line(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"--kv-cache .*file/below: .* Name a folder that can be made"):
        opened(folder, tmp_path / "file" / "below")


def test_a_model_on_copies_refuses_it(tmp_path, monkeypatch):
    from icl_harness.models import kv
    from icl_harness.models.copied import CopiedPrefix

    monkeypatch.setattr(kv, "open_prefix", lambda model: (CopiedPrefix(kv.Runner(model)), "a test"))
    with pytest.raises(ModelError, match="--kv-cache: LlamaForCausalLM runs on copies"):
        opened(str(save_tiny_model(tmp_path)), tmp_path / "cache")
