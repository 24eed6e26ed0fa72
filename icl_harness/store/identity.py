"""By what records know their run: hashes of what run.json says.

In: what run.json says. Out: hashes that the records carry, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from icl_harness.models.api.access import masked


def identity(header: Mapping[str, Any]) -> str:
    """Return the hash of what never changes in a run: its spec, data and weights."""
    parts = [header.get("spec"), header.get("data"), header.get("weights")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def identities(header: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes by which records know their run: `identity`, and `asked`, of how its models
    are asked, which a run of version 0.1 does not say.
    """
    found = {"identity": identity(header)}
    if "wording" in header:
        parts = [header["wording"], servers(header)]
        found["asked"] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return found


def servers(header: Mapping[str, Any]) -> dict[str, str | None]:
    """Return where each model is asked, as the spec or the environment said; None for its
    provider's own server.
    """
    found = {}
    for name, model in header.get("models", {}).items():
        url = model.get("base_url")
        found[name] = masked(url) if url else None
    return found
