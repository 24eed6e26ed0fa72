"""A loopback server that speaks the wire formats of OpenAI, Anthropic and Gemini, for tests and for
trying the CLI.

    python -m tests.servers --port 0        prints the base URLs and serves until Ctrl-C

In tests: `with LoopbackServer(reply) as server:` answers with `reply(prompt_text)`, keeps
`server.requests`, counts `server.max_in_flight`, keeps accounts (`server.bill`), and misbehaves
where told by `server.fail_next(...)`, `server.fail_always(...)` or `server.misbehave(seed)`. It
refuses what the providers refuse. Left out: streams, tools.
"""

from tests.servers.accounts import Bill
from tests.servers.anthropic_wire import AnthropicWire
from tests.servers.google_wire import GeminiWire
from tests.servers.handler import Handler
from tests.servers.misbehaviour import KINDS, Misbehaviour
from tests.servers.openai_wire import OpenAIWire
from tests.servers.server import LoopbackServer
from tests.servers.wire import STATUS, Json, Made, Request, count, majority_reply

__all__ = [
    "KINDS", "STATUS", "AnthropicWire", "Bill", "GeminiWire", "Handler", "Json", "LoopbackServer",
    "Made", "Misbehaviour", "OpenAIWire", "Request", "count", "majority_reply",
]  # fmt: skip
