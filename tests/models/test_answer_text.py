"""What of a text is its answer: without thoughts in any model's form, up to a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.models.answer_text import read_answer
from icl_harness.models.base import stop_place, truncate_at_stop
from icl_harness.models.local.decode import Texts
from icl_harness.thoughts import opens_thought
from tests.tiny_models import build_tokenizer

FORMS = {
    "Qwen, DeepSeek": ("<think>\n{}\n</think>\n\n", ""),
    "in capitals": ("<THINK>{}</THINK>", ""),
    "prompted": ("<thinking>\n{}\n</thinking>\n", ""),
    "EXAONE": ("<thought>\n{}</thought>\n\n", ""),
    "reasoning": ("<reasoning>{}</reasoning>", ""),
    "Seed": ("<seed:think>{}</seed:think>", ""),
    "Magistral": ("[THINK]{}[/THINK]", ""),
    "Kimi": ("◁think▷{}◁/think▷", ""),
    "OpenThinker": (
        "<|begin_of_thought|>\n{}\n<|end_of_thought|>\n\n<|begin_of_solution|>\n",
        "\n<|end_of_solution|>",
    ),
    "Command A": (
        "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>",
    ),
    "gpt-oss": (
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|return|>",
    ),
    "gpt-oss without specials": ("analysisWe see: {}assistantfinal", ""),
    "Gemma": ("<|channel>thought\n{}<channel|>", ""),
    "MedGemma": ("<unused94>thought\n{}<unused95>", ""),
    "Granite": ("Here is my thought process:\n{}\n\nHere is my response:\n", ""),
    "Granite's contraction": ("Here's my thought process: {}Here's my response: ", ""),
    "GLM": ("<think>{}</think>\n<answer>\n", "\n</answer>"),
    "the prompt began it": ("{}\n</think>\n\n", ""),
    "twice": ("<think>{}</think>\n<think>once more</think>", ""),
    "nested": ("<think>a <think>{}</think> b</think>", ""),
}  # fmt: skip
THOUGHTS = ["it is\nneutral or\n\npositive", "", "Answer: 3\nQuestion: what?", "x" * 3000]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("thought", THOUGHTS)
@pytest.mark.parametrize("answer", ["negative", "The final answer is 10.", "(A)"])
def test_thoughts_are_taken_off_before_stop_strings_apply(form, thought, answer):
    before, after = FORMS[form]
    text = before.format(thought) + answer + after
    reading = read_answer(text + "\nQuestion: next", ("\n", "Question:"))
    found = read_answer(text, ("\nQuestion:",))
    assert found.answer.strip() == answer
    assert not found.is_open
    if after == "":
        assert reading.answer.strip() == answer
        assert reading.stopped


OPEN = [form for form, (before, _) in FORMS.items() if not before.startswith("{}")]


@pytest.mark.parametrize("form", OPEN)
@pytest.mark.parametrize("thought", ["the label is negative", "so\n\nthe final answer is 1"])
def test_a_thought_that_is_not_ended_is_no_answer(form, thought):
    before = FORMS[form][0]
    begun = before[: before.index("{}")] + thought
    found = read_answer(begun, ("\n",))
    assert (found.answer.strip(), found.is_open, found.stopped) == ("", True, False)
    given_before = read_answer(f"neutral\n{begun}", ("\n",)) if "\\A" not in form else None
    if given_before and form not in (
        "Granite",
        "Granite's contraction",
        "gpt-oss without specials",
    ):
        assert given_before.answer == "neutral"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42 <think>checked</think>", "42 "),
        ("Sure. <think>a</think>It is <think>b</think>4.", "Sure. It is 4."),
        ("analysis", "analysis"),
        ("analysis of the film", "analysis of the film"),
        ("I think </b> 3", "I think </b> 3"),
        ("x < think > y", "x < think > y"),
        ("here is my response: 3", "here is my response: 3"),
        ("<answer>\nneutral\n</answer>", "\nneutral\n"),
        ("the thinking <b>", "the thinking <b>"),
        ("", ""),
    ],
)
def test_what_is_no_thought_stays(text, answer):
    assert read_answer(text).answer == answer


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("assistant\n<think>", True),
        ("[THINK]", True),
        ("<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("Stars:", False),
        ("", False),
    ],
)
def test_a_prompt_that_begins_a_thought_is_known(prompt, opens):
    assert opens_thought(prompt) is opens


def test_a_text_after_such_a_prompt_is_a_thought_until_it_is_ended():
    assert read_answer("it is neutral", ("\n",), opened=True).answer == ""
    assert read_answer("hm\n</think>\nneutral\n", ("\n",), opened=True).answer == "\nneutral"


@pytest.mark.parametrize(
    ("text", "stop", "answer"),
    [
        ("\n\n10\n", ("\n",), "\n\n10"),
        (" \n\nneutral", ("\n",), " \n\nneutral"),
        ("\r\nneutral\r\nnext", ("\n", "\r\n"), "\r\nneutral"),
        ("\n \t\n10\n\nFilm:", ("\n\n",), "\n \t\n10"),
        ("10", ("\n",), "10"),
        (" 10\n", ("\n",), " 10"),
        ("\n", ("\n",), "\n"),
        ("", ("\n",), ""),
        ("\n\nFilm: x\nStars: 3", ("\n", "Film:"), "\n\n"),
        ("\n---\n", ("\n---",), ""),
        ("a\n---", ("\n---",), "a"),
        ("\u2028x\u2028y", ("\u2028",), "\u2028x"),
    ],
)
def test_stop_strings_count_after_the_first_word(text, stop, answer):
    assert truncate_at_stop(text, stop) == answer


@given(st.text("\n \ta"), st.lists(st.sampled_from(["\n", "\n\n", " ", "\t\n", "a", "\na"])))
def test_an_answer_is_blank_only_where_the_text_is_or_a_visible_stop_string_begins_it(text, stop):
    found = truncate_at_stop(text, stop)
    assert text.startswith(found)
    place = stop_place(text, stop)
    assert (place is None) == (found == text) or place == len(found)
    if text.strip() and not any(s.strip() for s in stop):
        assert found.strip()


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        (["[THINK]", "[/THINK]"], "[THINK]fine or bad[/THINK]bad"),
        (
            ["<|channel|>", "<|message|>", "<|end|>"],
            "<|channel|>analysis<|message|>fine<|end|>assistant<|channel|>final<|message|>bad",
        ),
    ],
)
def test_marks_that_are_special_tokens_are_read_from_ids(marks, text):
    tokenizer = build_tokenizer("byte_bpe")
    tokenizer.add_special_tokens({"additional_special_tokens": [*marks, "<|other|>"]})
    ids = tokenizer("a: " + text + "<|other|>")["input_ids"]
    n = len(tokenizer("a: ")["input_ids"])
    [found] = Texts(tokenizer).of([ids[n - 1]], [ids[n:]])
    assert found == text.replace("<|end|>", "")
    assert read_answer(found).answer == "bad"
