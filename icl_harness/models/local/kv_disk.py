"""A path's keys and values on disk, so that tomorrow's queries do not prefill today's shots again.

In: the layers of a prefix, and its ids. Out: one safetensors file per block of tokens, named after
the model and the hash of all ids up to the block's end: whoever walks the same tokens with the same
model finds it, and runs may share a folder while they are going on. Blocks that nobody read for the
longest time give way when the folder is full; a path that alone is larger than the folder may be
keeps its beginning there. A disk that fails costs time, never the run. Left out: the last tokens of
a path that fill no block.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from icl_harness.errors import ModelError
from icl_harness.models.base import KvCache
from icl_harness.models.local.tokens import Ids

BLOCK = 512  # tokens per file
STALE_S = 3600.0  # a file that was being written so long ago was left by a run that was killed
Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values of one layer, (1, heads, tokens, width)


class Blocks:
    """The blocks of one model in a folder. `description` is all that a run folder says of the
    model: another config, precision or version of torch would not give the same numbers, and so has
    blocks of its own.
    """

    def __init__(self, cache: KvCache, description: Mapping[str, Any]) -> None:
        self._folder, self._limit = Path(cache.folder), int(cache.most_gb * 1e9)
        self._writes = True
        self._model = hashlib.sha256(
            json.dumps(description, sort_keys=True, default=str).encode()
        ).hexdigest()[:16]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(
                f"--kv-cache {self._folder}: {error.strerror}. Name a folder that can be made."
            ) from error

    def load(self, ids: Ids, start: int) -> Iterator[tuple[int, list[Pair]]]:
        """Yield (end, layers) of the blocks of `ids` that are here without a gap, from the one that
        holds `start` on.

        A damaged file is deleted and ends the row, as does one that another run has just removed.
        """
        for end, file in self._files(ids):
            if end <= start:
                continue
            try:
                found = load_file(file)
            except SafetensorError:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
                return
            except (
                OSError,
                RuntimeError,
            ):  # not there, not ours to read, or gone while it was opened
                return
            n_layers = len(found) // 2
            yield end, [(found[f"key.{i}"], found[f"value.{i}"]) for i in range(n_layers)]

    def save(self, ids: Ids, layers: Sequence[Pair]) -> None:
        """Keep the whole blocks of `ids`, of which `layers` are the keys and values, that are not
        here yet.

        Where the disk is full or cannot be written, warn once and keep nothing more.
        """
        if not self._writes:
            return
        try:
            self._save(ids, layers)
        except (OSError, SafetensorError) as error:
            self._writes = False
            warnings.warn(
                f"--kv-cache {self._folder} takes no more: {error}. The run goes on.", stacklevel=2
            )

    def _save(self, ids: Ids, layers: Sequence[Pair]) -> None:
        path = list(self._files(ids))
        missing = [(end, file) for end, file in path if not file.exists()]
        for end, file in missing:
            block: dict[str, torch.Tensor] = {}
            for i, (keys, values) in enumerate(layers):
                block[f"key.{i}"] = keys[:, :, end - BLOCK : end].contiguous()
                block[f"value.{i}"] = values[:, :, end - BLOCK : end].contiguous()
            size = sum(tensor.numel() * tensor.element_size() for tensor in block.values())
            if not self._has_room(size, {file for _, file in path}):
                break
            self._write(block, file)
        now = time.time_ns()
        for i, (_, file) in enumerate(path):
            with contextlib.suppress(FileNotFoundError):
                os.utime(
                    file, ns=(now - i, now - i)
                )  # of one path the end gives way before the beginning

    def _write(self, block: dict[str, torch.Tensor], file: Path) -> None:
        handle, part = tempfile.mkstemp(dir=self._folder, suffix=".part")
        os.close(handle)
        try:
            save_file(block, part)
            os.replace(part, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise

    def _files(self, ids: Ids) -> Iterator[tuple[int, Path]]:
        """Yield (end, file) for each whole block of `ids`."""
        hasher = hashlib.sha256()
        for end in range(BLOCK, len(ids) + 1, BLOCK):
            hasher.update(ids[end - BLOCK : end].astype("<i4").tobytes())
            yield end, self._folder / f"{self._model}-{end}-{hasher.hexdigest()[:32]}.safetensors"

    def _has_room(self, size: int, path: set[Path]) -> bool:
        """Make room for `size` bytes; never by deleting a block of `path`."""
        there = []
        for file in (*self._folder.glob("*.safetensors"), *self._folder.glob("*.part")):
            with contextlib.suppress(FileNotFoundError):  # another run may be making room, too
                there.append((file.stat(), file))
        total = sum(stat.st_size for stat, _ in there)
        for stat, file in sorted(there, key=lambda pair: pair[0].st_mtime_ns):
            if file.suffix == ".part" and time.time() - stat.st_mtime < STALE_S:
                continue  # it may still be being written
            if total + size <= self._limit:
                break
            if file not in path:
                file.unlink(missing_ok=True)
                total -= stat.st_size
        return total + size <= self._limit
