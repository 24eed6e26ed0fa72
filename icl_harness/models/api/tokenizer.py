"""The tokenizer of a model behind a server, by folder or hub id. Out: ids of the prompt tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icl_harness.errors import ModelError
from icl_harness.models.api.access import load_sdk
from icl_harness.models.local.tokens import TokenTree
from icl_harness.models.local.weights import one_line


def load_tokens(path_or_id: str, id: str) -> TokenTree:
    """Open a tokenizer: a folder, what was downloaded before, or else what the hub has. Raises
    `ModelError`.
    """
    transformers = load_sdk("transformers", "transformers", id)
    try:
        return TokenTree(_open(transformers.AutoTokenizer, path_or_id))
    except Exception as error:  # transformers raises whatever its parts raise  # noqa: BLE001
        raise ModelError(
            f"{id}: no tokenizer {path_or_id}: {one_line(error)} Name a folder that holds "
            "tokenizer.json, or a hub id."
        ) from None


def _open(auto: Any, path_or_id: str) -> Any:
    try:
        return auto.from_pretrained(path_or_id, local_files_only=True, trust_remote_code=False)
    except Exception:
        if Path(path_or_id).exists():
            raise
        return auto.from_pretrained(path_or_id, trust_remote_code=False)
