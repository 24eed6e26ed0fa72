"""How many tokens a prompt has, counted for a plan where an API would be asked.

In: an account, nodes, and the queries behind each. Out: a `Count`: by the model's own tokenizer
where that is here (tiktoken, or one that the user named), by the provider's counting endpoint where
there is a key, by an estimate elsewhere. The endpoint is asked once per node, with one query behind
it, as a prompt of shots alone may be refused; the other queries are estimated from the tokens that
a byte took. Behind one node queries with more shots of their own are other prompts: they are asked
about once, too. No model is ever asked for an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from icl_harness.errors import AccountError, ProviderError
from icl_harness.models.api.account import BYTES_PER_TOKEN, Account
from icl_harness.models.api.body import query_bytes, query_turns
from icl_harness.models.api.caching import prefix_of
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.limiter import Slot
from icl_harness.models.api.requests import missing_answer, persist
from icl_harness.models.forecast import Count, Counter
from icl_harness.prompts.tree import Node, Query

ESTIMATE = f"estimate: {BYTES_PER_TOKEN} bytes a token"
COUNTED = "counted by the provider"
TRIES = 3  # at the endpoint: a plan is no reason to wait long
PromptTurns = list[tuple[str, list[str]]]  # a role and the texts of its turn
CountEndpoint = Callable[[PromptTurns], Awaitable[int | None]]


class ApiCounter(Counter):
    """Counts the nodes of a model behind an API, each once. `notes` say why the endpoint was not
    used after all.
    """

    def __init__(
        self,
        account: Account,
        count_tokens: Callable[[Node, str], int | None],
        how: str,
        endpoint: CountEndpoint | None,
    ) -> None:
        super().__init__(count_tokens, how)
        self._account = account
        # where the endpoint counts, by the node's hash and how many edges of its own a query has
        self._per_byte: dict[tuple[str, int], float] = {}
        self._endpoint = endpoint if account.key else None

    async def count(self, node: Node, queries: Sequence[Query]) -> Count:
        """Return the tokens. Raises `AccountError` for a key that is refused."""
        counted = await super().count(node, queries)
        if counted is not None:
            return counted
        kind = (node.hash, len(queries[0].own) if queries else 0)
        if kind not in self._per_byte and self._endpoint is not None and queries:
            await self._ask(node, queries[0], self._endpoint)
        per_byte = self._per_byte.get(kind)
        rate = 1 / BYTES_PER_TOKEN if per_byte is None else per_byte
        return Count(
            prefix=round(node.n_bytes * rate),
            queries=tuple(round(query_bytes(query) * rate) for query in queries),
            how=ESTIMATE if per_byte is None else COUNTED,
        )

    async def _ask(self, node: Node, query: Query, endpoint: CountEndpoint) -> None:
        """Keep the provider's count of a prompt; where it gives none, it is not asked again."""
        account = self._account
        prompt = _turns(node, query)

        async def once(slot: Slot) -> int:
            try:
                n = await endpoint(prompt)
            except (AttributeError, TypeError) as error:  # SDKs give a page of HTML as a text
                raise Fault(f"malformed body: {error}") from None
            if not isinstance(n, int) or n < 1:
                raise Fault("malformed body: no count of tokens")
            account.reached = True
            return n

        try:
            n = await persist(account, once, tries=TRIES)
        except AccountError:
            raise
        except (Fault, ProviderError) as error:
            self._give_up(error)
            return
        n_bytes = node.n_bytes + query_bytes(query)
        self._per_byte[node.hash, len(query.own)] = n / max(1, n_bytes)

    def _give_up(self, error: Fault | ProviderError) -> None:
        """Go on with estimates, unless the account itself is refused."""
        account, text = self._account, str(error)
        if isinstance(error, Fault):
            if error.fate == "account" and error.status != 404:
                missing_answer(account, Query(id="", text=""), error)  # raises
            text = account.describe(error)
        if self._endpoint is not None:
            self.notes.append(f"{account.id}: tokens are estimated, as counting failed: {text}")
        self._endpoint = None


def _turns(node: Node, query: Query) -> PromptTurns:
    """Return the turns of a whole prompt, without a query that is blank."""
    found: PromptTurns = []
    pieces = [(piece.role, piece.text) for piece in prefix_of(node, cached=False).pieces]
    own = [turn for turn in query_turns(query) if turn[1].strip()]
    for role, text in [*pieces, *own]:
        if found and found[-1][0] == role:
            found[-1][1].append(text)
        else:
            found.append((role, [text]))
    return found
