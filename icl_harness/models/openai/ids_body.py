"""A request's JSON whose prompt is token ids; those of the prefix are written once."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from icl_harness.models.api.body import Filled, Json, sliced, to_json, to_members
from icl_harness.models.local.tokens import TokenTree
from icl_harness.prompts.tree import Node, Query


class IdsBody:
    """The requests behind one node."""

    def __init__(self, params: Mapping[str, Json], tree: TokenTree, node: Node) -> None:
        self.tree, self.node = tree, node
        self.ids = tree.ids(node)
        parts = [b"%d," % token for token in self.ids.tolist()]
        self._ends = list(accumulate(map(len, parts), initial=0))  # bytes of the first tokens
        self._prefix = b"".join(parts)
        self._whole = sliced(self._prefix)
        self._head = to_json(params)[:-1] + b',"prompt":['

    def fill(self, query: Query, **own: Json) -> Filled:
        """Return the request of one query: the ids are those of the whole text."""
        branch = self.tree.branches(self.node, [query.tail])[0].opened(self.ids)
        is_whole = branch.n_shared == len(self.ids)
        prefix = self._whole if is_whole else sliced(self._prefix[: self._ends[branch.n_shared]])
        ids = b",".join(b"%d" % i for i in branch.own)
        return Filled((self._head, *prefix, ids + b"]" + to_members(own) + b"}"))
