"""The progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from icl_harness.runner.walk import Progress


@contextmanager
def progress_bar() -> Iterator[Any]:
    """Give a watcher that draws cells done, queries done, tokens and the time left on standard
    error.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    # What is being done gives way first on a narrow terminal, then the bar; the numbers stay whole.
    columns = [
        TextColumn("{task.fields[cells]} cells"),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} queries"),
        TextColumn("{task.fields[tokens]:,} tokens"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn(
            "{task.fields[doing]}",
            style="dim",
            table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis"),
        ),
    ]
    console = Console(stderr=True)
    bar = Bar(
        *columns, console=console, transient=True, expand=True, disable=not console.is_terminal
    )
    line = bar.add_task("", total=0, cells="0", tokens=0, doing="")

    def watch(now: Progress) -> None:
        cells = f"{now.cells_done}/{now.cells}"
        doing = f"{now.workers} at work: {now.doing}" if now.workers else now.doing
        bar.update(
            line,
            completed=now.queries_done,
            total=now.queries,
            cells=cells,
            tokens=now.tokens,
            doing=doing,
        )
        bar.start()  # with the first answer, not before: what is refused is refused without a bar

    try:
        yield watch
    finally:
        if bar.live.is_started:
            bar.stop()
