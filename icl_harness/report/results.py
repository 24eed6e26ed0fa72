"""What a run leaves beside its records: curves.csv and curves.png.

In: a run and its curves. Out: the two files in its folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icl_harness.report.run import Run

if TYPE_CHECKING:
    import pandas as pd


def write_results(done: Run, frame: pd.DataFrame) -> str:
    """Write curves.csv and, where a point has a value, curves.png; return what the folder holds."""
    from icl_harness.analysis.curves import write_csv
    from icl_harness.report.plots import plot, save

    picture = done.path / "curves.png"
    write_csv(frame, done.path / "curves.csv")
    if not frame["value"].notna().any():
        picture.unlink(missing_ok=True)  # one of earlier answers would not be this table's
        return "curves.csv  records.db"
    save(plot(frame, done.chance()), picture)
    return "curves.csv  curves.png  records.db"
