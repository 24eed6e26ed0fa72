"""One model at one provider on a run's terms: what all its requests share and learn.

In: how the provider serves its models (`Service`), the user's options and the run's terms. Out: an
`Account` that requests, batches, caches and plans are given: the key, the price, the limiter, the
tokens that a byte took, whether the server was reached, and the words in which faults are reported.
Nothing secret leaves it: every text of the provider's goes through `one_line`.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from functools import cached_property

from icl_harness.errors import ModelError
from icl_harness.models.api.access import find_base_url, find_key, masked, url_keys
from icl_harness.models.api.api_args import ApiArgs
from icl_harness.models.api.caching import Prefix, prefix_of, ttl_for
from icl_harness.models.api.faults import Fault, Reply, one_line
from icl_harness.models.api.limiter import Limiter, Rates, limiter_of
from icl_harness.models.api.misses import Misses
from icl_harness.models.api.prices import Price, Tokens, find_price
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Sampling, Usage
from icl_harness.prompts.tree import Node

BYTES_PER_TOKEN = 3  # of English, tokenizers need 4 or more; of digits and code about 3
# The shortest prompt whose tokens a byte are remembered: what stands around short ones misleads.
SHORTEST_SAMPLE = 2000
LONGER = 1.5  # times as long, but no more tokens: the server may cut prompts off


@dataclass(frozen=True, kw_only=True)
class Service:
    """How a provider serves its models, the same for whoever asks.

    `key_names` and `base_url_name` are environment variables. `fewest_cached`: the fewest tokens
    that a cache takes, for the first pattern that is found in a model's name; below it nothing is
    cached. `paces_cached`: whether tokens read from a cache count against the tokens a minute.
    """

    provider: str
    key_names: tuple[str, ...]
    base_url_name: str
    sdk: str  # the module
    distribution: str
    install: str  # what to give to pip
    fewest_cached: tuple[tuple[str, int], ...] = (("", 1024),)
    caches: bool = True  # whether a cache may be asked for at all
    paces_cached: bool = True
    keeps_hours: bool = False  # whether a cache may be kept for an hour, at a price of its own
    keys_draws: bool = False  # whether a draw has a cache of its own, under a key
    key_optional: bool = False  # at another server than the provider's own

    def fewest_tokens(self, name: str) -> int:
        """Return the least length of a prefix that is cached."""
        found = (n for pattern, n in self.fewest_cached if re.search(pattern, name))
        return next(found, 0)


class Account:
    """One model at one provider. Mutable: it learns from every answer."""

    charges_writes = False  # whether writing to a cache has its own price, and is in the usage
    chats = True  # whether answers are a chat model's turns
    thinks_aloud = False  # a stop string has ended an answer within a thought
    key = ""

    def __init__(
        self, service: Service, name: str, *, id: str, base_url: str | None, terms: Terms
    ) -> None:
        self.service = service
        self.name = name
        self.id = id
        self.base_url = find_base_url(base_url, service.base_url_name, id)
        self.terms = terms
        self.args = ApiArgs()
        self.reasoning_tokens = 0
        self.price: Price | None = None
        self.tokens_per_byte = 1 / BYTES_PER_TOKEN  # until an answer shows
        self.reached = False  # an answer has come
        self.n_unanswered = 0  # failed attempts in a row that may be made again
        self.misses = Misses()
        self.diagnoses = True  # until the server refuses to say why a cache was not read
        self._notes = set[str]()
        self._longest = (0, 0)  # the bytes of the longest prompt that was answered, and its tokens

    def configure(self, args: ApiArgs, reasoning_tokens: int) -> None:
        """Take the user's options. Raises `ModelError` for a price that is not known."""
        self.args = args
        self.reasoning_tokens = reasoning_tokens
        self.price = self._find_price(args.priced_as)

    def find_key(self) -> None:
        """Find the key. Raises `ModelError` where it is missing and needed."""
        names = self.service.key_names
        self.key = find_key(names, self.id)
        optional = self.terms.keyless or (self.service.key_optional and self.base_url is not None)
        if not (self.key or optional):
            raise ModelError(
                f"{self.id} needs a key: set {' or '.join(names)}, or write it into .env."
            )

    def with_terms(self, terms: Terms) -> Account:
        """Return this account on other terms; what it has learnt goes with it."""
        other = copy.copy(self)
        vars(other).pop("limiter", None)
        other.terms = terms
        other._notes, other.misses = set(), Misses()
        return other

    @cached_property
    def limiter(self) -> Limiter:
        """Return the limiter that all models behind the same key and server share."""
        account = f"{self.service.provider} {self.base_url} {hash(self.key)}"
        # The requests of a plan count tokens, and are not paced.
        rates = Rates() if self.terms.keyless else self.terms.rates
        return limiter_of(account, rates, self.args.concurrency)

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, reasoning included."""
        return sampling.max_tokens + self.reasoning_tokens

    def prefix(self, node: Node, n_queries: int) -> Prefix:
        """Return a node as it is sent: cached, where several queries share it and it is long
        enough for the provider.
        """
        tokens = round(node.n_bytes * self.tokens_per_byte)
        worth_it = n_queries > 1 and tokens >= self.service.fewest_tokens(self.name)
        ttl = ttl_for(tokens, self.terms.rates)
        return prefix_of(node, cached=worth_it and self.service.caches, ttl=ttl)

    def learn(self, n_bytes: int, tokens: int) -> None:
        """Remember how many tokens a prompt had."""
        if n_bytes >= SHORTEST_SAMPLE:
            self.tokens_per_byte = tokens / n_bytes
        longest, most = self._longest
        if n_bytes <= longest:
            return
        if n_bytes > LONGER * longest > SHORTEST_SAMPLE and tokens <= most:
            self.say_once(
                f"{self.id}: the server counts {tokens:,} tokens in a prompt of {n_bytes:,} bytes, "
                f"no more than in one of {longest:,}: it may cut prompts off (num_ctx of Ollama, "
                "say). Give --model-arg context_window=N.",
                "short",
            )
        self._longest = (n_bytes, tokens)

    def say_once(self, note: str, kind: str) -> None:
        """Show a note to the user, the first time that there is one of its kind."""
        if kind not in self._notes:
            self._notes.add(kind)
            self.terms.say(note)

    def priced(self, reply: Reply, *, batch: bool = False) -> Usage:
        """Return a reply's usage with its price."""
        usage = reply.usage
        if self.price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return usage
        tokens = Tokens(
            prompt=usage.prompt_tokens,
            cached=usage.cached_tokens or 0,
            written=usage.cache_write_tokens or 0,
            written_1h=reply.written_1h,
            completion=usage.completion_tokens,
        )
        return replace(usage, cost_usd=self.price.cost_usd(tokens, batch=batch))

    def describe(self, fault: Fault) -> str:
        """Return a fault in one line, without the key."""
        return fault.describe(self.key, *url_keys(self.base_url or ""))

    def one_line(self, text: str) -> str:
        """Return a text of the provider's in one line, without the key."""
        return one_line(text, self.key, *url_keys(self.base_url or ""))

    def suspects(self, fault: Fault) -> str:
        """Return what to check after a fault that no further request can mend."""
        if fault.status == 404 or "model_not_found" in fault.codes:
            server = (
                f" and the base URL {self.one_line(masked(self.base_url))}" if self.base_url else ""
            )
            return f"the model's name{server}"
        return f"{' or '.join(self.service.key_names)} and its account"

    def whereabouts(self, fault: Fault) -> str:
        """Return what to check where no request is answered."""
        if fault.status == 429:
            return "Wait, or ask for less a minute with --rpm and --tpm."
        where = self.one_line(masked(self.base_url)) if self.base_url else "the network"
        return f"Is the server up? Check {where}."

    def _find_price(self, priced_as: str | None) -> Price | None:
        """Return the price; another server's tokens have another one, which `priced_as` names."""
        if priced_as is None:
            return None if self.base_url else find_price(self.service.provider, self.name)
        provider, _, name = priced_as.partition("/")
        price = find_price(provider, name)
        if price is None:
            raise ModelError(
                f"{self.id}: priced_as={priced_as}: no price is known. Name it as in openai/gpt-5."
            )
        return price
