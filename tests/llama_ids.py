"""llama.cpp's token ids of texts, from the server in xllamacpp, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path


def llama_ids(file: Path, texts: list[str]) -> list[list[int]]:
    """Return the ids of each text, as a prompt begins: with BOS where the file says so."""
    ran = subprocess.run(
        [sys.executable, __file__, str(file)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def main(file: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = file
    params.port = 0  # one that is free; at 127.0.0.1
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 256, 1, 0
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    found = []
    for text in json.load(sys.stdin):
        body = {"content": text, "add_special": True, "parse_special": True}
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            found.append(json.load(reply)["tokens"])
    print(json.dumps(found), flush=True)
    os._exit(0)  # the server's threads would go on


if __name__ == "__main__":
    main(sys.argv[1])
