"""Damaged records: noticed when they are opened, told in one line with its remedy, read as far as
they can be.
"""

import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.cli.app import main
from icl_harness.errors import StoreError
from icl_harness.report.export import export_damaged
from icl_harness.store.records import RunStore
from tests.quick import tries

SEED = int(os.environ.get("ICL_KILL_SEED", "20261128"))  # printed with a failure, to replay it
COMMANDS = ("curves", "export", "compare --by shots", "show --query test103")


def reply(prompt: icl_harness.Prompt) -> str:
    return " even" if len(prompt.text) % 3 else " odd"


def make_run(out: str = "out") -> Path:
    icl_harness.run(
        "toy", ScriptedModel(reply), out=out, data="data", shots=[0, 2, 8], draws=4,
    )  # fmt: skip
    return Path(out)


def call(*arguments: str) -> tuple[int, bytes, str]:
    """Run the command line; return its exit code and what it wrote."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(sys, "argv", ["icl", *arguments])
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        with pytest.raises(SystemExit) as ended:
            main()
    out.flush()
    return int(ended.value.code or 0), out.buffer.getvalue(), err.getvalue()  # type: ignore[attr-defined]


def flipped(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwritten(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data)), rng.randrange(1, 3000)
    data[at : at + length] = rng.randbytes(len(data[at : at + length]))


def zeroed(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data)), rng.randrange(1, 9000)
    data[at : at + length] = bytes(len(data[at : at + length]))


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def longer(data: bytearray, rng: random.Random) -> None:
    data += rng.randbytes(rng.randrange(1, 9000))


def swapped(data: bytearray, rng: random.Random) -> None:
    one, other = rng.sample(range(0, len(data), 4096), 2)
    pages = data[one : one + 4096], data[other : other + 4096]
    data[other : other + 4096], data[one : one + 4096] = pages


def digit(data: bytearray, rng: random.Random) -> None:
    """Put another answer in the place of one: the likeliest to go unnoticed."""
    at = rng.choice([i for i in range(len(data)) if data[i : i + 5] == b" even"])
    data[at : at + 5] = b" odd!"


KINDS = (flipped, overwritten, zeroed, cut, longer, swapped, digit)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_of_many_random_damages_none_is_read_without_a_word() -> None:
    whole = make_run()
    expected = {command: call(*command.split(), "out") for command in COMMANDS}
    assert all(code == 0 for code, _, _ in expected.values())
    good, rng = (whole / "records.db").read_bytes(), random.Random(SEED)
    n_salvaged = 0
    for i in range(tries(360)):
        kind, data = rng.choice(KINDS), bytearray(good)
        kind(data, rng)
        if bytes(data) == good:
            continue
        where = f"seed {SEED}, {kind.__name__}, damage {i}"
        (whole / "records.db").write_bytes(data)
        command = rng.choice(COMMANDS)
        code, out, err = call(*command.split(), "out")
        assert (code, out) in ((2, b""), expected[command][:2]), f"{where}: {command}: {err}"
        assert "unexpected" not in err, where
        if code:
            assert err.count("\n") == 1, where
            assert "out/records.db" in err, where
            assert "out --salvage --out FILE" in err or "later version" in err, f"{where}: {err}"
        with pytest.raises(StoreError):
            make_run()  # nothing is asked on top of it
        n_salvaged += _is_salvaged_right(expected["export"][1], where)
    assert n_salvaged > tries(360) / 4


def _is_salvaged_right(whole: bytes, where: str) -> bool:
    """Return whether something was salvaged; all of it must be as it was, or missing."""
    code, out, err = call("export", "out", "--salvage")
    assert "unexpected" not in err, where
    if code:
        assert (code, err.count("\n")) == (2, 1), f"{where}: {err}"
        return False
    key = ["shots", "draw", "query_id"]
    before, after = (
        pd.read_csv(io.BytesIO(text), dtype=str).set_index(key) for text in (whole, out)
    )
    assert not after.index.duplicated().any(), where
    before = before.loc[after.index]
    assert ((after == before) | after.isna()).all(axis=None), where
    kept = [name for name in after.columns if name not in ("node_hash", "input", "target")]
    kept = [name for name in kept if name not in ("choices", "cluster")]
    assert after[kept].equals(before[kept]), where
    return len(after) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("more", [[], ["--shot-ids"], ["--format", "jsonl"]])
def test_what_is_salvaged_of_a_whole_run_is_its_export(more: list[str]) -> None:
    make_run()
    code, out, err = call("export", "out", "--salvage", *more)
    assert (code, out) == call("export", "out", *more)[:2]
    assert err == "144 records were read; none is known to be lost\n"


def page_of(file: Path, text: bytes) -> int:
    return file.read_bytes().index(text) // 4096


@pytest.mark.usefixtures("toy")
def test_what_is_lost_is_counted_and_the_rest_is_whole(tmp_path: Path) -> None:
    store = RunStore.open(make_run())
    header = store.header
    store.close()
    assert header["spec"]["draws"] == 4
    file = Path("out/records.db")
    data = bytearray(file.read_bytes())
    with contextlib.closing(sqlite3.connect("out/records.db")) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'queries'").fetchone()
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    file.write_bytes(data)
    with Path("rest.csv").open("wb") as out:
        notes = export_damaged(Path("out"), "csv", out)
    assert notes[0].startswith("144 records were read")
    assert notes[1].startswith("144 of them lack their input")
    frame = pd.read_csv("rest.csv")
    assert frame["input"].isna().all()
    assert frame["score"].notna().all()


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE records SET answer = ' even'",
        "DELETE FROM records WHERE query_id = 'test103'",
        "UPDATE cells SET metric = 'macro_f1'",
        "INSERT INTO rescored VALUES (1, 'a', '{}', 'b', 0, '{}')",
    ],
)
def test_an_edit_through_sqlite_is_no_damage(edit: str) -> None:
    path = make_run()
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db, db:
        db.execute(edit)
    assert call("curves", "out")[0] == 0
    make_run()
    assert (path / "records.crc").exists(), "the run was closed again, and is sealed"
    assert call("curves", "out")[0] == 0


@pytest.mark.usefixtures("toy")
def test_a_run_without_its_checksums_is_read_and_checked_by_sqlite() -> None:
    path = make_run()
    (path / "records.crc").unlink()
    assert call("curves", "out")[0] == 0
    data = bytearray((path / "records.db").read_bytes())
    data[-4096:] = bytes(4096)
    (path / "records.db").write_bytes(data)
    code, _, err = call("curves", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "is damaged" in err


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("content", [b"", b"x", b"0" * 16 + b"\n", b"\xff" * 500])
def test_checksums_that_are_damaged_themselves_stop_nobody(content: bytes) -> None:
    (make_run() / "records.crc").write_bytes(content)
    assert call("curves", "out")[0] == 0


def writable(path: Path, *, is_writable: bool) -> None:
    for one in (*path.iterdir(), path):
        one.chmod(0o755 if is_writable else 0o555)


def without_privileges(do: Callable[[], int]) -> int:
    """Return what a function returns in a child process that permissions bind, though it be
    root's.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    with contextlib.suppress(BaseException):
        if os.getuid() == 0:
            import ctypes

            libc = ctypes.CDLL(None)
            head = (ctypes.c_uint32 * 2)(0x20080522, 0)
            assert libc.capset(head, (ctypes.c_uint32 * 6)()) == 0
        code = do()
    os._exit(code)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("is_killed", [False, True], ids=["finished", "killed"])
@pytest.mark.parametrize("command", [*COMMANDS, "batch", "caches", "plot --out x.svg"])
def test_a_run_in_a_folder_that_cannot_be_written_is_read(command: str, is_killed: bool) -> None:
    path = make_run()
    expected = call(*command.split(), "out")
    if is_killed:
        store = RunStore.open_for_writing(path)
        with store._writing(), contextlib.suppress(sqlite3.Error):
            store._db.execute("UPDATE records SET latency_s = latency_s")
        shutil.copytree(path, "copy")
        store.close()
        shutil.rmtree(path)
        Path("copy").rename(path)
        assert (path / "records.db-wal").stat().st_size > 0
        (path / "records.db-shm").unlink(missing_ok=True)
    writable(path, is_writable=False)

    def read() -> int:
        try:
            (path / "probe").touch()
        except OSError:
            return 0 if call(*command.split(), "out")[:2] == expected[:2] else 1
        return 98  # the folder can be written: nothing was tested

    try:
        before = sorted(path.iterdir())
        assert without_privileges(read) == 0
        assert sorted(path.iterdir()) == before
    finally:
        writable(path, is_writable=True)


def test_a_damaged_json_list_in_an_unsealed_run_is_told_in_one_line(toy: Path) -> None:
    path = make_run()
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db, db:
        db.execute("UPDATE texts SET text = '[' WHERE text LIKE '[%'")
    with pytest.raises(StoreError, match=r"records.db is damaged: .*icl export out --salvage"):
        icl_harness.Run("out").records()
    assert json.loads((path / "run.json").read_text())["spec"]["seed"] == 0
