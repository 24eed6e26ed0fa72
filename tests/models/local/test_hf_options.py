"""Adapters, quantised weights, device maps and chat templates, as transformers takes them."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.base import Sampling
from icl_harness.models.hf import HfModel
from icl_harness.prompts.tree import Node, Query
from tests.models.test_hf import ask, grow, queries_of, shots
from tests.tiny_models import save_tiny_model

CHAT = (
    "{% for m in messages %}<|begin|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant\n{% endif %}"
)


def nats(plain, ids: list[int], n: int) -> float:
    """The log-likelihood of the last `n` of `ids`, from one plain forward."""
    with torch.inference_mode():
        told = plain(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
    return float(sum(told[i - 1, ids[i]] for i in range(len(ids) - n, len(ids))))


def weighed(model: HfModel, node: Node) -> float:
    [query] = queries_of(1, choices=("p", "n"), continuations=(" positive", " negative"))
    return ask(model, node, [query], Sampling(scoring="choices"))["q0", 0].logprobs["p"]


def expected(plain, model: HfModel, node: Node) -> float:
    tokenizer, [query] = model._tree._tokenizer, queries_of(1)
    ids, before = (
        tokenizer(node.text + query.text + end)["input_ids"] for end in (" positive", "")
    )
    return nats(plain, ids, len(ids) - len(before))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft's, in get_peft_model
def test_an_adapter_is_part_of_the_model_and_of_what_it_says_it_is(tmp_path):
    peft = pytest.importorskip("peft")
    folder, node = str(save_tiny_model(tmp_path / "base")), grow(Node("Label.\n\n"), shots(3))
    torch.manual_seed(1)
    lora = peft.LoraConfig(
        r=4, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    bare, model = HfModel(folder), HfModel(folder, adapter=str(tmp_path / "adapter"))
    assert model.describe()["branches"] == "shared"
    assert weighed(model, node) == pytest.approx(expected(adapted, model, node), abs=1e-4)
    assert abs(weighed(model, node) - weighed(bare, node)) > 0.1
    assert set(model.describe()["adapter"]["sha256"]) == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert "adapter" not in bare.describe()


def test_quantised_weights_are_taken(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder, node = str(save_tiny_model(tmp_path, "wide_llama")), grow(Node("Label.\n\n"), shots(3))
    wish = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    model = HfModel(folder, quantization=json.dumps(wish))
    plain = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=wish, dtype=torch.float32
    )
    assert type(model._model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    assert model.describe()["branches"] == "shared"
    assert weighed(model, node) == pytest.approx(
        expected(plain, model, node), abs=0.05
    )  # its kernels round by the number of tokens


PIECES = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
SPREAD = {**dict.fromkeys(PIECES, "cpu"), "model.layers.1": "disk"}


@pytest.mark.parametrize("device_map", ["auto", json.dumps(SPREAD)])
def test_a_device_map_is_taken(tmp_path, device_map):
    pytest.importorskip("accelerate")
    folder, node = str(save_tiny_model(tmp_path)), grow(Node("Label.\n\n"), shots(3))
    model = HfModel(folder, device_map=device_map, dtype="float32")
    assert hasattr(model._model, "hf_device_map") == (
        device_map != "auto"
    )  # one device needs no map
    assert weighed(model, node) == pytest.approx(weighed(HfModel(folder), node), abs=1e-5)


def test_a_wrong_quantisation_is_one_line(tmp_path):
    folder = str(save_tiny_model(tmp_path))
    for text, rule in (
        ("4bit", "it must be a JSON object"),
        ('{"quant_method": "guess"}', "cannot be opened"),
    ):
        with pytest.raises(ModelError, match=rule) as error:
            HfModel(folder, quantization=text)
        assert "\n" not in str(error.value)


def test_a_model_that_opens_and_does_not_run_is_one_line(tmp_path):
    folder = str(save_tiny_model(tmp_path, "gpt2", context=8))  # a trial takes more positions
    with pytest.raises(ModelError, match="was opened, but does not run: ") as error:
        HfModel(folder)
    assert "\n" not in str(error.value)


def test_a_wrong_adapter_is_one_line_about_the_adapter(tmp_path):
    folder = str(save_tiny_model(tmp_path))
    for adapter, rule in (
        ("/nowhere", "/nowhere does not exist"),
        (folder, "it has no adapter_config.json"),
    ):
        with pytest.raises(
            ModelError, match=f"--model-arg adapter={adapter} cannot be put on the model: .*{rule}"
        ):
            HfModel(folder, adapter=adapter)


@pytest.mark.slow
def test_a_chat_template_stands_once_around_every_prompt(tmp_path):
    folder = save_tiny_model(tmp_path, tokenizer="llama3")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    model = HfModel(str(folder), chat_template="true")
    assert not model.capabilities.chat  # turns of its own would be put into one
    node = Node("Label the reviews.\n\n")
    for k in (0, 2, 5):
        node = grow(node, shots(k)[len(node.path) - 1 :])
        queries = queries_of(3, choices=("p", "n"), continuations=(" positive", " n"))
        written = ask(model, node, queries, Sampling(max_tokens=6))
        weights = ask(model, node, queries, Sampling(scoring="choices"))
        for query in queries:
            said = [{"role": "user", "content": node.text + query.text}]
            text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            answer = written[query.id, 0]
            assert answer.usage.prompt_tokens == len(ids) == model.count_tokens(node, query.text)
            out = plain.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=6,
                do_sample=False, eos_token_id=model._ends, pad_token_id=0,
            )[0, len(ids) :]  # fmt: skip
            assert answer.text == tokenizer.decode(out, skip_special_tokens=True)
            whole = tokenizer(text + "positive", add_special_tokens=False)["input_ids"]
            told = weights[query.id, 0].logprobs["p"]
            assert told == pytest.approx(nats(plain, whole, len(whole) - len(ids)), abs=1e-4)
    assert model.n_prefilled == len(
        tokenizer(text.partition(query.text)[0], add_special_tokens=False)["input_ids"]
    )


@pytest.mark.parametrize(("kind", "steady"), [("phi3_longrope", 64), ("llama_dynamic", 512)])
def test_a_window_ends_where_positions_begin_to_depend_on_the_prompts_length(
    tmp_path, kind, steady
):
    folder = str(save_tiny_model(tmp_path, kind))
    model = HfModel(folder)
    assert model.capabilities.context_window == steady
    assert model.describe().get("window_held_to") == (steady if steady < 512 else None)
    node = grow(Node("Label.\n"), [shot[:30] for shot in shots(1)])
    long = grow(node, shots(9)[1:])
    answers = [
        ask(model, at, queries_of(1), Sampling(max_tokens=2))["q0", 0] for at in (node, long)
    ]
    assert answers[0].status == "ok"
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert weighed(model, node) == pytest.approx(expected(plain, model, node), abs=1e-4)
    if kind == "phi3_longrope":
        assert (answers[1].status, answers[1].usage.prompt_tokens > 64) == ("overflow", True)
    with pytest.raises(
        ModelError, match=f"beyond {steady} tokens this model's rotary positions change"
    ) as error:
        HfModel(folder, context_window=str(steady + 1))
    assert "\n" not in str(error.value)
    assert HfModel(folder, context_window="32").capabilities.context_window == 32


@pytest.mark.parametrize("template", [CHAT, CHAT.replace("m.content", "m.content | trim")])
def test_white_space_around_a_prompt_in_one_turn_is_what_the_template_makes_of_it(
    tmp_path, template
):
    folder = save_tiny_model(tmp_path, tokenizer="llama3")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    model, query = (
        HfModel(str(folder), chat_template="true"),
        Query(id="q", text="Review: dull\nSentiment:\n "),
    )
    for node in (
        Node("\n "),
        *(grow(Node(preamble), shots(2)) for preamble in ("Label.\n", " \nLabel.", "\n ")),
    ):
        answer = ask(model, node, [query], Sampling(max_tokens=2))["q", 0]
        said = [{"role": "user", "content": node.text + query.text}]
        text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        assert answer.usage.prompt_tokens == len(
            tokenizer(text, add_special_tokens=False)["input_ids"]
        )


def test_a_prompt_in_one_turn_takes_no_turns_of_its_own(tmp_path):
    folder = save_tiny_model(tmp_path, tokenizer="llama3")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    with pytest.raises(SpecError, match="takes shots as one turn only"):
        ask(
            HfModel(str(folder), chat_template="true"),
            Node("Label.", role="system"),
            queries_of(1),
            Sampling(),
        )


def test_a_layer_that_reads_anothers_keys_need_not_keep_the_model_from_being_opened(tmp_path):
    model, node = (
        HfModel(str(save_tiny_model(tmp_path, "gemma4"))),
        grow(Node("Label.\n\n"), shots(3)),
    )
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert model.describe()["branches"] in ("shared", "copied")
    assert weighed(model, node) == pytest.approx(expected(plain, model, node), abs=1e-3)


def test_a_tokenizer_without_a_chat_template_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no template for one turn") as error:
        HfModel(str(save_tiny_model(tmp_path)), chat_template="true")
    assert "\n" not in str(error.value)
