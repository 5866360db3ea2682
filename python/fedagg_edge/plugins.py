"""Finding a user's own function by ``module:function`` and calling it, with errors that say what to do.

Models, learners, data sources and partition rules all plug in this way. Nothing here knows what the function returns:
the caller checks that.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fedagg_edge.errors import ConfigError, FedaggError, nearest

__all__ = ["call", "is_spec", "load_object"]

_lock = threading.RLock()  # sys.path and sys.modules are the whole process's
_user_modules: dict[str, Path] = {}
"""Modules that came from a `base_dir`: two projects in one process may both call theirs `model`."""


def is_spec(text: str) -> bool:
    """Whether `text` has the form ``module:function``."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(p.isidentifier() for p in [*module.split("."), *name.split(".")])


def load_object(spec: str, base_dir: str | Path | None = None) -> Callable[..., Any]:
    """Return the callable that `spec`, ``module:function``, names.

    `base_dir`, usually the configuration file's directory, is searched before everything else, but only while the
    module is imported: what the module imports later, inside a function, is not found there.

    Raises ConfigError, naming `spec` and the remedy, if the form is wrong, the module is missing or fails to import,
    the name is missing, or it is not callable.
    """
    if not is_spec(spec):
        raise ConfigError(f"plug-in: got {spec!r}, expected 'module:function', for example 'model:build'")
    module_name, _, name = spec.partition(":")
    base = None if base_dir is None else Path(base_dir).resolve()
    with _lock:
        found: Any = _import(module_name, spec, base)
    for part in name.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__file__", None) or module_name
            raise ConfigError(f"plug-in {spec!r}: no {part!r} in {where}{nearest(part, dir(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"plug-in {spec!r}: got {type(found).__name__}, expected something callable")
    return found  # type: ignore[no-any-return]


def call(function: Callable[..., Any], what: str, arguments: Mapping[str, Any]) -> Any:
    """Return ``function(**arguments)``; raise ConfigError, naming `what`, if it does not take them.

    What a user's function raises passes through untouched, so that its traceback is seen; a TypeError or ValueError of
    one of this package's own functions can only come from an argument's value, and becomes a ConfigError too.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin without a signature: nothing to check against
        return function(**arguments)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(_misfit(signature, what, arguments, error)) from None
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, FedaggError) or not str(function.__module__).startswith("fedagg_edge."):
            raise
        raise ConfigError(f"{what}: {error}; check the values of its arguments") from error


def _misfit(signature: inspect.Signature, what: str, arguments: Mapping[str, Any], error: TypeError) -> str:
    known = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
    unknown = [key for key in arguments if key not in known]
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()) or not unknown:
        return f"{what}: {error}; it takes {', '.join(known) or 'no arguments'}"
    hint = nearest(unknown[0], known)
    return f"{what}: unknown argument {unknown[0]!r}{hint}; it takes {', '.join(known) or 'no arguments'}"


def _import(module_name: str, spec: str, base: Path | None) -> ModuleType:
    _forget_other_projects(base)
    before = set(sys.modules)
    try:
        with _searched_first(base):
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(_not_found(module_name, spec, base, error)) from error
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"plug-in {spec!r}: importing {module_name!r} failed with {type(error).__name__}: {error}"
        ) from error
    if base is not None:
        _remember(set(sys.modules) - before, base)
        _refuse_shadowed(module, module_name, spec, base)
    return module


def _not_found(module_name: str, spec: str, base: Path | None, error: ModuleNotFoundError) -> str:
    if error.name is not None and module_name != error.name and not module_name.startswith(error.name + "."):
        return f"plug-in {spec!r}: {module_name!r} imports {error.name!r}, which is not installed"
    near = nearest(module_name, [p.stem for p in base.glob("*.py")]) if base and base.is_dir() else ""
    place = f"in {base} or among the installed packages" if base else "among the installed packages"
    return f"plug-in {spec!r}: no module {module_name!r} {place}{near}"


def _refuse_shadowed(module: ModuleType, module_name: str, spec: str, base: Path) -> None:
    """Raise if the project has a file of this name but Python had already loaded another, say the library's `json`."""
    mine = base.joinpath(*module_name.split("."))
    loaded = Path(getattr(module, "__file__", None) or "").resolve()
    if mine.with_suffix(".py").is_file() and not loaded.is_relative_to(base):
        raise ConfigError(
            f"plug-in {spec!r}: {mine.with_suffix('.py')} is hidden by the module of the same name from {loaded}; "
            "rename the file"
        )


@contextmanager
def _searched_first(base: Path | None) -> Iterator[None]:
    if base is None:
        yield
        return
    importlib.invalidate_caches()  # the project's file may be younger than the cached directory listing
    sys.path.insert(0, str(base))
    try:
        yield
    finally:
        sys.path.remove(str(base))


def _remember(names: set[str], base: Path) -> None:
    for name in names:
        file = getattr(sys.modules[name], "__file__", None)
        # a virtual environment may lie inside the project; its packages are not the project's modules
        if file and Path(file).resolve().is_relative_to(base) and "site-packages" not in file:
            _user_modules[name] = base


def _forget_other_projects(base: Path | None) -> None:
    for name in [n for n, owner in _user_modules.items() if base is not None and owner != base]:
        sys.modules.pop(name, None)
        del _user_modules[name]
