"""Every error a user can meet.

    IclError                 one line: what is wrong, where, the rule, the remedy
    ├── SpecError            the request itself: unknown task, mode, variant; shots beyond the pool
    ├── DataError            rows: a missing, empty or malformed file; a pool with a query in it
    ├── TemplateError        a prompt template: a missing block, an undefined variable
    ├── ModelError           a model that cannot be opened: unknown id, no key, not a model
    ├── StoreError           a run folder: unwritable, foreign, made by another spec
    └── ProviderError        one request to a model
        ├── ContextOverflow  the prompt is longer than the model's context window
        ├── AccountError     key, quota or permission: a retry cannot help, the run stops
        ├── BudgetSpent      the next request could exceed --max-cost: the run stops
        └── WorkerLost       the worker died: another takes the request

An error carries the command line's exit code, and whether running the same command again can help.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IclError(Exception):
    """Base of all errors that the user can fix."""

    exit_code: int = 2
    resumable: bool = False


class SpecError(IclError):
    """The request cannot be carried out."""


class DataError(IclError):
    """Rows cannot be read, or would make the numbers wrong."""


class TemplateError(IclError):
    """A prompt template cannot be rendered."""


class ModelError(IclError):
    """A model cannot be opened."""


class StoreError(IclError):
    """A run folder cannot be used."""


class ProviderError(IclError):
    """A request to a model failed; running again repeats it."""

    exit_code = 1
    resumable = True


class ContextOverflow(ProviderError):
    """The provider says that the prompt is longer than its context window."""


class AccountError(ProviderError):
    """Wrong key, no permission or no quota: every further request would fail too."""


class BudgetSpent(ProviderError):
    """The next request could cost more than is left of the budget."""


class WorkerLost(ProviderError):
    """A worker, or its machine, died before it answered; another can answer."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Nearest: a, b."`` for a message about an unknown name, empty where none is."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Nearest: {', '.join(close)}." if close else ""
