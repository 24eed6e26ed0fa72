"""Files without an end are refused in one line, in bounded time and memory."""

import gzip
import os
import socket
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from icl_harness.cli.app import main
from icl_harness.errors import DataError
from icl_harness.tasks import bounded
from icl_harness.tasks.bounded import bounded_bytes


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has at most 108 bytes
        server.bind(path.name)
        os.chdir(here)


MAKERS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a socket": a_socket,
}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl", "train.csv", "train.jsonl.gz"])
def test_what_is_no_file_is_refused_in_one_line(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split = name.partition(".")[0]
    Path(f"data/toy/{split}.jsonl").unlink()
    MAKERS[kind](Path("data/toy", name))
    monkeypatch.setattr(sys, "argv", ["icl", "run", "toy", "--model", "demo", "--data", "data"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1)
    assert name in err


@pytest.mark.parametrize("content", [b"\0", b'{"id": "a", "text": "n"}\n'])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 3_000_000)
    bomb = tmp_path / "train.jsonl.gz"
    bomb.write_bytes(gzip.compress(content * (50_000_000 // len(content))))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpack to more than") as caught:
        bounded_bytes(bomb)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_a_file_of_rows_is_read_whole(tmp_path: Path, size: int) -> None:
    rows = os.urandom(size // 2).hex().encode()
    (tmp_path / "rows.jsonl").write_bytes(rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(rows))
    assert bounded_bytes(tmp_path / "rows.jsonl") == rows
    assert bounded_bytes(tmp_path / "rows.jsonl.gz") == rows


def write_parquet(path: Path, texts: pyarrow.Array, *, dictionary: bool = True) -> None:
    labels = pyarrow.DictionaryArray.from_arrays([0] * len(texts), ["even"])
    table = pyarrow.table({"id": pyarrow.nulls(len(texts)), "text": texts, "label": labels})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=dictionary)


BOMBS: dict[str, Callable[[Path], None]] = {
    "one text in every row": lambda path: write_parquet(
        path, pyarrow.DictionaryArray.from_arrays([0] * 50_000, ["x" * 20_000])
    ),
    "zeros": lambda path: write_parquet(path, pyarrow.array(["0" * 8_000_000]), dictionary=False),
    "zeros in many rows": lambda path: write_parquet(
        path, pyarrow.array(["0" * 8_000] * 1_000), dictionary=False
    ),
    "nothing, very often": lambda path: write_parquet(
        path, pyarrow.nulls(1_000_000, pyarrow.string())
    ),
}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_parquet_bomb_is_refused_in_one_line(
    bomb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 2_000_000)
    path = Path("data/toy/train.parquet")
    Path("data/toy/train.jsonl").unlink()
    BOMBS[bomb](path)
    assert path.stat().st_size < 40_000
    with pyarrow.parquet.ParquetFile(path) as file, pytest.raises(DataError):
        assert all(batch.nbytes < 3_000_000 for batch in bounded.bounded_batches(path, file))
    monkeypatch.setattr(sys, "argv", ["icl", "run", "toy", "--model", "demo", "--data", "data"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1), err
    if bomb != "nothing, very often":  # its first row lacks its text
        assert "unpack to more than 2,000,000" in err
