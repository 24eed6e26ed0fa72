"""What every wire format shares: a request's blocks of text, an answer before it has a form, a
refusal, the word count.

In: a request's body. Out: the `Block`s of its prompt, each with its role and, where a cache
breakpoint ends it, the lifetime of the entry. Left out: HTTP, accounts, and what is peculiar to one
provider.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from tests.servers.accounts import Bill, Plan
    from tests.servers.server import LoopbackServer

Json = dict[str, Any]
MALFORMED = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
)  # what reading a body of another shape raises
# Faults with a status; the others are in misbehaviour.py, and: shapeless, refused, filtered,
# length, slow.
STATUS = {
    "overflow": 400, "invalid": 400, "string": 400, "auth": 401, "billing": 402, "forbidden": 403,
    "cache": 403,
    "missing": 404, "model": 404, "too large": 413, "rate": 429, "quota": 429, "500": 500,
    "503": 503, "529": 529,
}  # fmt: skip


def majority_reply(prompt: str) -> str:
    """Return the commonest answer among the prompt's shots: of lines like the last one, what
    follows its marker.
    """
    lines = [line for line in prompt.splitlines() if line.strip()]
    match = re.search(r"(->|\w+:)\s*$", lines[-1]) if lines else None
    marker = match[1] if match else None
    answers = [
        line.rpartition(marker)[2].strip() for line in lines[:-1] if marker and marker in line
    ]
    return Counter(filter(None, answers)).most_common(1)[0][0] if any(answers) else "unknown"


def count(text: str) -> int:
    """Return the tokens of a text: its words."""
    return len(text.split())


@dataclass
class Block:
    """A piece of the prompt. `ttl` is set where a cache breakpoint ends it; `message` is the
    message it is part of.
    """

    text: str
    role: str = "user"
    ttl: str | None = None
    message: int = 0


def joined(blocks: Iterable[Block]) -> str:
    """Return the prompt: a message's blocks as they are, each message on a line of its own."""
    pieces: list[str] = []
    last = None
    for block in blocks:
        if (
            last is not None
            and block.message != last
            and pieces[-1]
            and not pieces[-1].endswith("\n")
        ):
            pieces.append("\n")
        pieces.append(block.text)
        last = block.message
    return "".join(pieces)


@dataclass
class Request:
    """One request as it came; `parts` are the texts of its prompt's blocks, system prompt first."""

    provider: str
    path: str
    headers: dict[str, str]
    body: Json
    blocks: list[Block] = field(default_factory=list)
    model: str = ""
    plan: Plan | None = None
    refusal: Refused | None = None

    @property
    def parts(self) -> list[str]:
        """Return the texts."""
        return [block.text for block in self.blocks]

    @property
    def prompt(self) -> str:
        """Return the whole prompt."""
        return joined(self.blocks)


@dataclass
class Made:
    """An answer before it has a form. `finish` is stop, length, refused or filtered; `said` has one
    per prompt.
    """

    text: str
    finish: str
    n_prompt: int
    n_cached: int
    n_reasoning: int
    n_text: int
    writes: dict[str, int] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)


class Refused(Exception):
    """A request that the provider refuses, with a fault of `STATUS` and what it says."""

    def __init__(self, fault: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.headers = headers or {}


@dataclass
class Reply:
    """What goes back: a body, and the bill of the answer in it if there is one."""

    payload: Json | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    bills: list[Bill] = field(default_factory=list)


class Wire:
    """A form of request: its `path`, its prompt's `blocks`, the `check` that may refuse, its
    `limits`, an `answer`.
    """

    name: str
    path: re.Pattern[str]
    errors: ClassVar[dict[str, tuple[str, str]]]  # fault -> its code or type, its message

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server

    def key(self, headers: dict[str, str]) -> str | None:
        """Return the key that was sent."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" else None

    def model(self, path: str, body: Json) -> str:
        """Return the model's name."""
        return str(body["model"])

    def prompts(self, request: Request) -> list[str]:
        """Return the texts that the model is asked to go on from."""
        return [request.prompt]

    def thinks(self, body: Json) -> bool:
        """Return whether the model may think before it answers."""
        return True
