"""Processes that begin as forks of one that has loaded the library: a test that starts dozens does
not wait for imports each time. They are signalled, killed and waited for as others are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from icl_harness.cli import app

LOADED = ["icl_harness.cli.execute", "pandas", "openai", "anthropic", "google.genai", "aiohttp",
          "tests.batch_worker"]  # fmt: skip
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(LOADED)


def icl(*arguments: str) -> None:
    """Run the command line."""
    sys.argv = ["icl", *arguments]
    app.main()


class Forked:
    """A process that calls a function, in this folder and environment."""

    def __init__(self, call: Callable[..., None], *arguments: str) -> None:
        folder = Path(tempfile.mkdtemp(dir=Path.cwd().parent))
        self._said = (str(folder / "out"), str(folder / "err"))
        where = (os.getcwd(), dict(os.environ), self._said)
        self._process: ForkServerProcess = _SERVER.Process(
            target=_run, args=(call, arguments, *where)
        )
        self._process.start()

    def poll(self) -> int | None:
        """Return the exit code, negative where a signal ended it; None while it goes on."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """The exit code."""
        return self.poll()

    def send_signal(self, which: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None and self._process.pid is not None:
            os.kill(self._process.pid, which)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return what it wrote to stdout and stderr."""
        self._process.join(timeout)
        assert self.poll() is not None, f"still going on after {timeout} s"
        out, err = (Path(file).read_text() if Path(file).exists() else "" for file in self._said)
        return out, err


def _run(
    call: Callable[..., None],
    arguments: tuple[str, ...],
    folder: str,
    environment: Mapping[str, str],
    said: tuple[str, str],
) -> None:
    """Call the function as a process of its own would: folder, environment, output, signals."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for file, own in zip(said, (1, 2), strict=True):
        with open(file, "wb") as written:
            os.dup2(written.fileno(), own)
    sys.stdout, sys.stderr = (os.fdopen(own, "w", buffering=1, closefd=False) for own in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call(*arguments)
