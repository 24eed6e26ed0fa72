"""What `--model-arg` may set of any model behind an API; providers' own options derive from it."""

from __future__ import annotations

from icl_harness.models.model_args import ModelArgs, seconds, whole, word, yes_no

MOST_IN_FLIGHT = 64  # requests at a time, where the provider lets them


class ApiArgs(ModelArgs):
    """Options of every API. `reasoning_tokens` is room for reasoning, added to max_tokens;
    `send_temperature` and it depend on the model where they are not given. `priced_as` names the
    provider/model whose price this server's tokens have.
    """

    concurrency: int = whole(MOST_IN_FLIGHT, least=1)
    context_window: int | None = whole(None, least=1)
    timeout_s: float = seconds(600.0)
    max_retries: int = whole(8, least=0)
    reasoning_tokens: int | None = whole(None, least=0)
    send_temperature: bool | None = yes_no(None)
    priced_as: str | None = word()
