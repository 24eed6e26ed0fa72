"""Chats for tests of local models: templates written in the manner of real ones, prefixes, and
their messages.

The messages are made from the edges without the package, so that what it makes of them can be held
against them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from icl_harness.prompts.tree import Node
from tests.tiny_models import build_tokenizer, save_tiny_model

MARKS = ["<|im_start|>", "<|im_end|>", "<|header|>", "<|turn|>", "[INST]", "[/INST]", "<|channel|>"]

# A system's turn of its own where none is given.
CHATML = """
{%- if messages[0].role != "system" %}
{{- "<|im_start|>system\\nYou are helpful.<|im_end|>\\n" }}{% endif %}
{%- for m in messages %}
{{- "<|im_start|>" + m.role + "\\n" + m.content + "<|im_end|>\\n" }}{% endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}"""
# Trims everything.
HEADERS = """
{{- bos_token }}{% for m in messages %}
{{- "<|header|>" + m.role + "<|header|>\\n\\n" + m.content | trim + "<|turn|>" }}{% endfor %}
{%- if add_generation_prompt %}{{ "<|header|>assistant<|header|>\\n\\n" }}{% endif %}"""
# The system's words, as they are, in the first turn of the user's; the assistant is called
# otherwise.
FIRST_TURN = """
{{- bos_token }}
{%- set start = messages[0].content + "\\n\\n" if messages[0].role == "system" else "" %}
{%- for m in messages if m.role != "system" %}
{%- if (m.role == "user") != (loop.index0 % 2 == 0) %}
{{- raise_exception("roles must alternate") }}{% endif %}
{{- "<|turn|>" + ("model" if m.role == "assistant" else "user") + "\\n" }}
{{- (start if loop.first else "") + m.content | trim + "<|im_end|>\\n" }}{% endfor %}
{%- if add_generation_prompt %}{{ "<|turn|>model\\n" }}{% endif %}"""
# Answers begin with a space that is not asked for.
SPACED = """
{%- for m in messages %}
{%- if m.role == "user" %}{{ bos_token + "[INST] " + m.content.strip() + " [/INST]" }}
{%- elif m.role == "system" %}{{ "<<SYS>>" + m.content + "<</SYS>>" }}
{%- else %}{{ " " + m.content.strip("\\n") + " " + eos_token }}{% endif %}{% endfor %}"""
# An answer asked for begins with a channel; those of before have theirs.
CHANNELS = """
{%- if messages[0].role != "system" %}{{ raise_exception("no system") }}{% endif %}
{%- for m in messages %}{{ "<|turn|>" + m.role }}
{{- "<|channel|>final" if m.role == "assistant" else "" }}
{{- "<|header|>" + m.content.rstrip() + "<|im_end|>" }}
{%- endfor %}{{ "<|turn|>assistant" if add_generation_prompt else "" }}"""
# Nothing but the words.
PLAIN = """{%- for m in messages %}{{ m.content }}{% endfor %}"""
TEMPLATES = {
    "chatml": CHATML,
    "headers": HEADERS,
    "first turn": FIRST_TURN,
    "spaced": SPACED,
    "channels": CHANNELS,
    "plain": PLAIN,
}

LAST_TURN = """
{{- bos_token }}{% for m in messages if m.role != "system" %}
{%- if m.role == "user" %}{{ "[INST] " }}
{%- if loop.last and messages[0].role == "system" %}{{ messages[0].content + "\\n\\n" }}{% endif %}
{{- m.content + "[/INST]" }}{% else %}{{ " " + m.content + eos_token }}{% endif %}{% endfor %}"""
# Without a role for the system: refused, or not written.
WITHOUT_SYSTEM = {
    "refused": '{%- if messages[0].role == "system" %}{{ raise_exception() }}{% endif %}' + HEADERS,
    "left out": CHATML.replace("in messages", 'in messages if m.role != "system"'),
}
# Cuts what was thought.
CUTTING = CHATML.replace("m.content", 'm.content.split("</think>")[-1]')
REFUSED = {
    "the system's words before the last turn": LAST_TURN,
    "turns that are numbered": HEADERS.replace("m.role +", "m.role ~ (loop.length - loop.index) ~"),
    "the last turn alone": PLAIN.replace("in messages", "in messages[-2:]"),
    "a turn said twice": HEADERS + "{{ messages[0].content | trim }}",
    "a turn said before every other": HEADERS.replace(
        "m.role +", "m.role + messages[0].content | trim +"
    ),
    "white space that is halved": PLAIN.replace(
        "m.content", "m.content | replace('\\n\\n', '\\n')"
    ),
    "a fault": "{{ messages[0].content.nothing() }}",
    "no template": None,
}  # fmt: skip


@cache
def tokenizer_of(kind: str, template: str | None):
    tokenizer = build_tokenizer(kind)
    tokenizer.add_tokens(MARKS, special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def messages_of(node: Node, query: str) -> list[dict[str, str]]:
    """The messages of a chat: edges in a row of one role are a turn, and a turn of white space
    alone is none.
    """
    said: list[list[str]] = []
    for edge in node.path:
        if said and (said[-1][0] == edge.role or not edge.segment):
            said[-1][1] += edge.segment
        elif edge.segment:
            said.append([edge.role, edge.segment])
    merged: list[dict[str, str]] = []
    for role, words in [*(turn for turn in said if turn[1].strip()), ["user", query]]:
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += words
        else:
            merged.append({"role": role, "content": words})
    return merged


def grown(preamble: str, shots) -> list[Node]:
    """The prefixes of a chat with more and more of its shots, of which some have no answer."""
    nodes = [Node(preamble, role="system")]
    for asked, answer in shots:
        node = nodes[-1].child(asked if answer is None else f"Q{asked}", role="user")
        nodes.append(node if answer is None else node.child(answer, role="assistant"))
    return nodes


def ids_of(tokenizer, messages) -> list[int]:
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def save_chatty(folder: Path, template: str) -> str:
    """Write a tiny model with a chat template; its vocabulary is the tiny one's, so that marks are
    words to it.
    """
    save_tiny_model(folder, tokenizer="llama3")
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)
