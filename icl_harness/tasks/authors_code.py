"""What the author of a task wrote and the harness calls: its errors become one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from icl_harness.errors import IclError


@contextlib.contextmanager
def authors_code(where: str, failed: str, kind: type[IclError]) -> Iterator[None]:
    """Turn whatever a task author's code raises into an error of one line, sys.exit too.

    `where` names the code, `failed` what it did not do.
    """
    try:
        yield
    except IclError as error:
        raise kind(f"{where}: {error}") from error
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""  # none for a NUL byte
        raise kind(f"{where}{line}: {error.msg}.") from error
    except SystemExit as error:
        raise kind(
            f"{where}{failed}: it ends the program (SystemExit: {error.code}); take sys.exit out."
        ) from error
    except Exception as error:
        from icl_harness.tasks.rows import short

        raise kind(f"{where}{failed}: {short(error)}.") from error
