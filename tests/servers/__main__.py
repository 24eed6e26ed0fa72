"""Serves by hand: prints the base URL of each provider and answers with the commonest label until
Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import threading

from tests.servers import LoopbackServer


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description="A loopback server of three providers that answers with the majority."
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    args = parser.parse_args()
    with LoopbackServer(port=args.port, delay_s=args.delay_s, keep_bodies=False) as server:
        for provider in ("openai", "anthropic", "google"):
            print(f"{provider:10} --base-url {server.base_url(provider)}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
