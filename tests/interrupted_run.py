"""A run to be killed: every ask is written to a log before it is answered. Usage:
interrupted_run.py OUT LOG.
"""

import os
import sys
import time

import icl_harness
from icl_harness import Prompt, ScriptedModel


def main(out: str, log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def reply(prompt: Prompt) -> str:
        os.write(file, f"{prompt.node.hash} {prompt.query.id} {prompt.query.sample}\n".encode())
        time.sleep(0.001)
        number = int(prompt.query.input.split()[1])
        return " even" if (number + prompt.query.seed % 3 == 0) or number % 2 == 0 else " odd"

    icl_harness.run(
        "toy", ScriptedModel(reply), out=out, data="data",
        modes=["supervised", "unsupervised", "reinforced"],
        shots=[0, 2, 5], draws=2, bank_samples=2,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
