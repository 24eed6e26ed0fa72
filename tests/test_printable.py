"""Texts of servers do not drive a terminal: shown there, removed from messages, left alone in
files.
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import icl_harness
from icl_harness.models.api.faults import one_line
from icl_harness.printable import KINDS, VisibleBytes, visible, without_controls
from tests.servers import LoopbackServer

ATTACKS = {
    "the clipboard": "\x1b]52;c;aGk=\x07",
    "the title": "\x1b]0;owned\x07",
    "clearing the screen": "\x1b[2J\x1b[H",
    "a C1 sequence": "\x9b2J",
    "a hyperlink": "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\",
    "right to left": "\u202eabc\u202c",
    "an isolate": "\u2066abc\u2069",
    "a carriage return": "good\rbad",
    "backspaces": "good\b\b\b\bbad",
    "a bell": "\a",
    "invisible letters": "a\u200bb\u200d\ufeffc\u00ad",
    "tags": "x\U000e0041\U000e007f",
    "a line separator": "a\u2028b\x85c\vd\fe",
    "a device's report": "\x1b[6n\x1bP$q q\x1b\\",
    "a NUL": "\0",
}


def driving(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in KINDS} - set("\n\t")


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_drives_a_terminal_is_shown_there_and_left_out_of_messages(attack: str) -> None:
    text = f"one {ATTACKS[attack]} two\n\tthree"
    assert driving(text)
    assert not driving(visible(text))
    assert visible(text).startswith("one ")
    assert visible(text).endswith(" two\n\tthree")
    assert not driving(without_controls(text))
    assert not driving(one_line(text))
    file = io.BytesIO()
    VisibleBytes(file).write(text.encode())
    assert file.getvalue().decode() == visible(text)


@given(st.text())
def test_nothing_else_is_changed(text: str) -> None:
    kept = "".join(c for c in text if c not in driving(text))
    shown = visible(text)
    assert not driving(shown)
    assert len(shown) >= len(text)
    if kept == text:
        assert shown == without_controls(text) == text


def test_a_key_with_invisible_characters_inside_is_masked_all_the_same() -> None:
    key = "planted-key-0123456789"
    assert key not in one_line("bad key planted-\u200bkey-0123\x004567\u202e89", key)
    assert "***" in one_line("bad key planted-\u200bkey-0123456789", key)


def on_terminal(*arguments: str, url: str = "") -> str:
    """Return what a command of ours shows on a terminal."""
    root = Path(__file__).parents[1]
    main, other = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(root), "TERM": "dumb", "OPENAI_BASE_URL": url,
           "OPENAI_API_KEY": "none"}  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, str(root / "cli.py"), *arguments],
        stdin=other, stdout=other, stderr=other, env=env,
    )  # fmt: skip
    os.close(other)
    shown = b""
    try:
        while more := os.read(main, 4096):
            shown += more
    except OSError:  # the other end is closed
        pass
    worker.wait()
    os.close(main)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_neither_answers_nor_errors_of_a_server_drive_the_terminal(toy) -> None:
    evil = "".join(ATTACKS.values())
    grid = ["toy", "--data", "data", "--draws", "1", "--out", "out", "--modes", "reinforced"]
    with LoopbackServer(lambda prompt: f"even {evil}") as server:
        url = server.base_url("openai")
        run = ["run", *grid, "--shots", "0,1", "--model", "openai/some-model"]
        shown = on_terminal(*run, url=url)
        assert not driving(shown), shown
        query = icl_harness.Run("out").records()["query_id"].iloc[0]
        for command in (
            ["export", "out"],
            ["export", "out", "--format", "jsonl"],
            ["show", "out", "--query", query, "--shots", "1"],
            ["curves", "out"],
        ):
            shown = on_terminal(*command, url=url)
            assert not driving(shown), command
            is_shown = "\\x1b" in shown or "\\u001b" in shown
            assert is_shown or "curves" in command, command
        assert "give --out" in on_terminal("export", "out", "--format", "parquet").lower()
        server.wire_of("/v1/chat/completions").errors = {"invalid": ("bad", f"no {evil} way")}
        server.fail_always("invalid")
        shown = on_terminal("run", *grid[:-4], "--shots", "2", "--out", "other", *run[-2:], url=url)
        assert "way)" in shown
        assert not driving(shown), shown
