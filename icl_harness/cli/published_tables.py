"""The table of curves as a paper or a page prints it: LaTeX (booktabs) or Markdown.

In: the tables of a terminal, and what their reader must know. Out: text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from icl_harness.errors import SpecError, nearest

Texts = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, heading, rows
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "·": r"$\cdot$",
}  # fmt: skip


def published(form: str, tables: Iterable[Texts], notes: Sequence[str]) -> str:
    """Return tables in a form. Raises `SpecError` for one that is not known."""
    if form not in WRITERS:
        raise SpecError(
            f"unknown format {form!r}.{nearest(form, WRITERS)} Known: {', '.join(WRITERS)}."
        )
    return WRITERS[form](list(tables), notes)


def _markdown(tables: Sequence[Texts], notes: Sequence[str]) -> str:
    parts = []
    for title, heading, rows in tables:
        lines = [f"**{_in_markdown(title)}**", "", _markdown_row(heading)]
        lines.append("|---:|" + "---|" * (len(heading) - 1))
        lines += map(_markdown_row, rows)
        parts.append("\n".join(lines))
    parts += [f"{_in_markdown(note)}." for note in notes]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_in_markdown, cells))} |"


def _in_markdown(text: str) -> str:
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_<>|~$])", r"\\\1", one_line)


def _latex(tables: Sequence[Texts], notes: Sequence[str]) -> str:
    parts = ["% needs \\usepackage{booktabs}"]
    for title, heading, rows in tables:
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_in_latex(title)}}}"]
        lines += [rf"\begin{{tabular}}{{r{'l' * (len(heading) - 1)}}}", r"\toprule"]
        lines += [_latex_row(heading), r"\midrule", *map(_latex_row, rows), r"\bottomrule"]
        lines += [r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    parts += [rf"\noindent\footnotesize {_in_latex(note)}." for note in notes]
    return "\n\n".join(parts) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(map(_in_latex, cells))} \\"


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


WRITERS = {"markdown": _markdown, "latex": _latex}
