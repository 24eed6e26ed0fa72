"""Keys and values kept between runs: found again by the same tokens and model only, within the
size, damaged or not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from icl_harness.errors import ModelError
from icl_harness.models.base import KvCache, Sampling
from icl_harness.models.hf import HfModel
from icl_harness.models.local import kv_disk
from icl_harness.prompts.tree import Node
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
    return HfModel(
        folder, kv_cache=KvCache(folder=str(cache), most_gb=args.pop("most_gb", 1.0)), **args
    )


def told(model, node):
    answers = ask(
        model,
        node,
        queries_of(3, choices=("a", "b"), continuations=(" a b", " c")),
        Sampling(scoring="choices"),
    )
    texts = ask(model, node, queries_of(3), Sampling(max_tokens=5))
    weights = [nats for a in answers.values() for nats in a.logprobs.values()]
    return np.round(weights, 3).tolist(), [a.text for a in texts.values()]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft's, in get_peft_model
def test_another_config_adapter_or_quantisation_is_another_model(folder, tmp_path):
    peft = pytest.importorskip("peft")
    pytest.importorskip("bitsandbytes")
    node, cache = grow(Node("Label the reviews.\n"), lines(6)), tmp_path / "cache"
    base = save_tiny_model(tmp_path / "base", "wide_llama")
    n = opened(str(base), cache).count_tokens(node)

    def prefilled(folder, **args) -> int:
        model = opened(str(folder), cache, **args)
        told(model, node)
        return model.n_prefilled

    assert prefilled(base) == n
    assert prefilled(base) < n
    assert (
        prefilled(
            base, quantization=json.dumps({"quant_method": "bitsandbytes", "load_in_4bit": True})
        )
        == n
    )
    config = json.loads((base / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] *= 2
    (base / "config.json").write_text(json.dumps(config))
    assert prefilled(base) == n
    adapter = tmp_path / "adapter"
    lora = peft.LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(adapter)
    assert prefilled(base, adapter=str(adapter)) == n
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps({**config, "lora_alpha": 4 * config["lora_alpha"]})
    )
    assert prefilled(base, adapter=str(adapter)) == n


def test_a_full_disk_costs_a_warning_and_no_run(folder, tmp_path, monkeypatch):
    node, full = (
        grow(Node("Label the reviews.\n"), lines(4)),
        OSError(28, "No space left on device"),
    )

    def write(*args, **kwargs) -> None:
        raise full

    expected = told(HfModel(folder), node)
    monkeypatch.setattr(kv_disk, "save_file", write)
    model = opened(folder, tmp_path)
    with pytest.warns(
        UserWarning, match="takes no more: .*No space left on device.* The run goes on"
    ):
        assert told(model, node) == expected
    assert told(model, grow(node, lines(6)[4:])) == told(HfModel(folder), grow(node, lines(6)[4:]))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_now_is_left_where_it_is(folder, tmp_path, monkeypatch):
    node = grow(Node("Label the reviews.\n"), lines(4))
    expected = told(opened(folder, tmp_path), node)
    files = sorted(tmp_path.iterdir())

    def load(*args, **kwargs) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kv_disk, "load_file", load)
    assert told(opened(folder, tmp_path), node) == expected
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.slow
def test_processes_that_fill_a_folder_at_once_do_not_trip_over_each_other(tmp_path):
    code = """
import sys, time, numpy as np, torch
from icl_harness.models.local import kv_disk
from icl_harness.models.base import KvCache
kv_disk.BLOCK = 4
rng = np.random.default_rng(int(sys.argv[1]))
blocks = kv_disk.Blocks(KvCache(folder=sys.argv[2], most_gb=3e-6), {"model": 1})
end = time.monotonic() + 4
while time.monotonic() < end:
    ids = np.repeat(rng.integers(0, 3, 6), 4).astype(np.int32)
    layer = torch.tensor(ids, dtype=torch.float32).view(1, 1, -1, 1)
    blocks.save(ids, [(layer, -layer)])
    for at, [(key, value)] in blocks.load(ids, 0):
        assert key.flatten().tolist() == ids[at - 4 : at].tolist() == (-value).flatten().tolist()
"""
    cwd = Path(__file__).parents[3]
    command = [sys.executable, "-W", "error", "-c", code]
    running = [
        subprocess.Popen([*command, str(seed), str(tmp_path)], cwd=cwd, stderr=subprocess.PIPE)
        for seed in range(3)
    ]
    assert [one.communicate()[1] for one in running] == [b"", b"", b""]
    assert list(tmp_path.glob("*.safetensors"))
    assert not list(tmp_path.glob("*.part"))


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


def test_the_folder_stays_within_its_size_and_the_path_read_last_keeps_its_beginning(
    folder, tmp_path
):
    old, new = (
        grow(Node(f"{name} reviews.\n"), lines(5)) for name in ("Label the", "Now judge these")
    )
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
    with pytest.raises(
        ModelError, match=r"--kv-cache .*file/below: .* Name a folder that can be made"
    ):
        opened(folder, tmp_path / "file" / "below")


def test_a_model_on_copies_refuses_it(tmp_path, monkeypatch):
    from icl_harness.models.local import kv, ways
    from icl_harness.models.local.copied import CopiedPrefix

    monkeypatch.setattr(
        ways, "open_prefix", lambda model: (CopiedPrefix(kv.Runner(model)), "a test")
    )
    with pytest.raises(ModelError, match="--kv-cache: LlamaForCausalLM runs on copies"):
        opened(str(save_tiny_model(tmp_path)), tmp_path / "cache")
