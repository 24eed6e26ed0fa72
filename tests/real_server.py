"""A real OpenAI-compatible server for tests: `transformers serve` with the bundled model, on the
CPU.

    with serving(folder) as server: ...      server.base_url; server.answered() counts its answers

In: an empty folder, for copies of the model and for the server's log. The bundled model has no chat
template, which chat completions need: the copies `plain` and `turns` have one each, by which the
model reads the very bytes of the prompt in the text format. Left out: keys, streams.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from icl_harness.models.local.provider import DEMO_FOLDER

NEEDS = ("fastapi", "uvicorn")  # what `transformers serve` needs beside what the project has
# The messages' text and nothing else.
PLAIN = "{%- for message in messages %}{{ message['content'] }}{% endfor -%}"
# A chat and nothing else: the system's turn, then the user's and the assistant's in turn, of which
# the latter are written as answers are in the text format. As many templates of real models do, it
# refuses other orders of roles.
TURNS = """
{%- for message in messages -%}
{%- set role = "system" if loop.first else "user" if loop.index0 % 2 else "assistant" -%}
{%- if message["role"] != role or (loop.last and role != "user") -%}
{{ raise_exception("not " + role) }}
{%- endif -%}
{{- " " + message["content"] + "\n" if role == "assistant" else message["content"] -}}
{%- endfor -%}
"""
START_S = 120.0  # five seconds on an idle machine


@dataclass(frozen=True)
class RealServer:
    """A server that runs."""

    base_url: str
    log: Path

    def answered(self) -> Counter[tuple[str, int]]:
        """Return how many requests to each path were answered with each status, by the server's own
        log.
        """
        found = re.findall(r'"POST /v1(/\S+) HTTP/1\.1" (\d+)', self.log.read_text())
        return Counter((path, int(status)) for path, status in found)


def missing() -> list[str]:
    """Return the packages that the server lacks here."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


@contextmanager
def serving(folder: Path) -> Iterator[RealServer]:
    """Serve the bundled model until the block ends. Raises `RuntimeError`, with the log, if it does
    not start.
    """
    for name, template in (("plain", PLAIN), ("turns", TURNS)):
        shutil.copytree(DEMO_FOLDER, folder / name)
        (folder / name / "chat_template.jinja").write_text(template)
    log = folder / "server.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--device", "cpu"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            # Threads gain nothing on so small a model.
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        yield RealServer(f"{address(process, log)}/v1", log)
    finally:
        process.kill()
        process.wait()


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the server to say where it listens: it was given port 0, so that the system chose a
    free one.
    """
    deadline = time.monotonic() + START_S
    while (found := re.search(r"running on (http://\S+)", log.read_text())) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"`transformers serve` did not start:\n{log.read_text()}")
        time.sleep(0.05)
    return found[1]
