"""Look-up of built-in entries by name, and of the user's code by import path."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from ser.utils.errors import UserError, shown, unknown_name

T = TypeVar("T")


def resolve(kind: str, name: str, known: Mapping[str, T], base: type | None = None) -> T:
    """Return the built-in entry of a name, or import the class or function that it is the path of.

    A name with dots that is not in ``known`` is an import path, ``my_package.my_module.MyLoss``. The current folder is
    appended to ``sys.path`` for it and stays there, because the imported code may import more of its package later.
    As the last entry it cannot hide a package that is importable without it.

    Args:
        kind: Kind of entry, such as ``"loss"``; for messages.
        name: A key of ``known``, or the import path of a class or function.
        known: Built-in entries by name.
        base: Base class of an imported class. Without it, anything callable is accepted.

    Returns:
        The entry of ``known``, or the imported class or function.

    Raises:
        UserError: If the name is unknown, or if the import path does not lead to such an object.

    Example:
        >>> resolve("reduction", "largest", {"largest": max, "smallest": min}) is max
        True
        >>> resolve("reduction", "statistics.median", {"largest": max})([3, 1, 2])
        2
    """
    if name in known:
        return known[name]
    found = _import_path(kind, name, known)
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(
            f"{kind} {shown(name)} must be a subclass of {base.__module__}.{base.__qualname__}, got {shown(found)}."
        )
    if not callable(found):
        raise UserError(f"{kind} {shown(name)} must be a class or a function, got {shown(found)}.")
    return cast(T, found)


def resolve_instance(kind: str, name: str, known: Mapping[str, T], *bases: type) -> T:
    """Return the built-in entry of a name, or import the object that it is the path of, such as a front end.

    Args:
        kind: Kind of entry, such as ``"front end"``; for messages.
        name: A key of ``known``, or the import path of an object.
        known: Built-in entries by name.
        bases: Classes of which an imported object may be an instance.

    Raises:
        UserError: If the name is unknown, or if the import path does not lead to such an object.

    Example:
        >>> resolve_instance("constant", "math.tau", {}, float)
        6.283185307179586
    """
    if name in known:
        return known[name]
    found = _import_path(kind, name, known)
    if not isinstance(found, bases):
        wanted = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in bases)
        raise UserError(f"{kind} {shown(name)} must be an instance of {wanted}, got {shown(found)}.")
    return cast(T, found)


def _import_path(kind: str, name: str, known: Mapping[str, object]) -> object:
    *module_parts, attribute = name.split(".")
    if not module_parts or not all(part.isidentifier() for part in (*module_parts, attribute)):
        raise unknown_name(kind, name, known)
    module_name = ".".join(module_parts)
    current_folder = str(Path.cwd())
    if current_folder not in sys.path:
        sys.path.append(current_folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module can fail with anything
        raise UserError(
            f"{kind} {shown(name)}: module {shown(module_name)} cannot be imported ({type(error).__name__}: {error}). "
            "Its package must be importable: install it, add its folder to PYTHONPATH, "
            "or run the command from its folder."
        ) from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
        raise UserError(f"{kind} {shown(name)}: module {shown(module_name)} has no {shown(attribute)}.{hint}")
    return getattr(module, attribute)
