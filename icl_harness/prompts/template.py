"""Templates: a family of prompts is one Jinja file with four named blocks."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from icl_harness.errors import SpecError, TemplateError, nearest
from icl_harness.tasks.discovery import content
from icl_harness.tasks.task import Task

_LABELS = re.compile(r"\{[{%][^}]*\blabels\b")
_IF_LABELS = re.compile(r"\bif (?:not )?labels\b")
BLOCKS = ("preamble", "shot", "format", "query")
ANSWER = "answer"  # a block that a template may have


class Template:
    """A family of prompts: one Jinja file with the blocks preamble, shot, format and query.

    The text that gives a choice as the answer is taken from the shot block, unless there is a block
    `answer`, which is that text to the byte.
    """

    def __init__(self, source: str, name: str) -> None:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.name = name
        self.lists_labels = bool(_LABELS.search(source)) and not _IF_LABELS.search(source)
        self.hash = hashlib.sha256(source.encode()).hexdigest()
        # a template from elsewhere can say what a prompt is, but neither run nor change anything
        env = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
        )
        try:
            self._template = env.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"template {name}, line {error.lineno}: {(error.message or '').rstrip('.')}."
            ) from error
        except Exception as error:
            # what Jinja compiles to may be no Python, or nest too deep for it
            raise TemplateError(
                f"template {name} cannot be compiled: {type(error).__name__}, {error}."
            ) from error
        missing = [block for block in BLOCKS if block not in self._template.blocks]
        if missing:
            raise TemplateError(
                f"template {name} lacks the block {missing[0]!r}; it needs {', '.join(BLOCKS)}."
            )

    @classmethod
    def load(cls, path: Path) -> Template:
        """Read a template file. Raises `TemplateError`."""
        try:
            return cls(path.read_text(encoding="utf-8"), path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateError(f"template {path} cannot be read: {error}.") from error

    @property
    def has_answer(self) -> bool:
        """Return whether it has a block of the text that gives an answer."""
        return ANSWER in self._template.blocks

    def render(self, block: str, **variables: Any) -> str:
        """Return one block's text. Raises `TemplateError` naming an undefined variable."""
        import jinja2

        try:
            context = self._template.new_context(variables)
            text = "".join(self._template.blocks[block](context))
            text.encode()  # what is no UTF-8 could be neither hashed, sent nor stored
            return text
        except jinja2.UndefinedError as error:
            known = ", ".join(sorted(variables))
            raise TemplateError(
                f"template {self.name}, block {block}: {error.message}. It may use {known}."
            ) from error
        except Exception as error:
            # A template is user code: whatever it raises is reported in its name.
            raise TemplateError(
                f"template {self.name}, block {block}: {type(error).__name__}, {error}."
            ) from error


def load_template(task: Task) -> Template:
    """Return the task's prompts. Raises `TemplateError`, or `SpecError` where there are none."""
    files = content("prompts", ".jinja")
    if task.prompts not in files:
        close = nearest(task.prompts, files)
        raise SpecError(
            f"task {task.name}: there is no prompts/{task.prompts}.jinja.{close} Add the file or "
            "name one that exists."
        )
    found = Template.load(files[task.prompts])
    if found.lists_labels and not task.labels and not task.labels_from_data:
        raise SpecError(
            f"task {task.name}: prompts/{task.prompts}.jinja lists the labels, and the task has "
            "none. Give it labels=(…), or labels_from_data=True for all that occur in the data."
        )
    return found
