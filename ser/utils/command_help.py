"""Help texts of the command lines, from the dataclasses of their options: groups, values, defaults and examples."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from ser.utils.command_names import COMMANDS

GROUPS = {
    "data": (
        "corpus", "corpus_root", "corpus_options", "classes", "exclude", "split_by", "fold", "validation", "subset",
        "test_corpus", "test_options",
    ),
    "noise and labels": ("noise", "labels", "select_on"),
    "training": ("epochs", "model", "pretrained", "width", "batch_size", "precision", "config", "settings", "seed"),
    "search": ("space", "trials", "sampler", "scheduler", "widen"),
    "confirmation": ("study", "top", "seeds", "reference", "primary", "pilot"),
    "resources": ("cpus_per_trial", "gpus_per_trial", "max_concurrent", "time_budget", "address"),
    "records": ("name", "experiment", "tracking_uri", "storage_path", "keep", "arithmetic", "output", "features"),
    "this call": ("plan", "resume", "list_spaces"),
}  # fmt: skip
"""Title of each group → names of its options."""
FEW = 10
"""Number of options up to which a command needs no groups."""
_WIDEST, _COLUMN = 80, 26

_VALUES = {str: "TEXT", int: "INT", float: "NUMBER", Path: "PATH"}


@dataclass(frozen=True)
class Option:
    """Option of a command line.

    Args:
        name: Name of its field.
        flags: How it can be written, the shown one last; the name of a positional one.
        value: Its values as the help text shows them; empty for a switch.
        about: What it is.
        default: Its default; ``dataclasses.MISSING`` for a required option.
        kind: ``int``, ``float`` or another type of one value.
        choices: The possible values; empty for any.
        least: Smallest number of values.
        is_named: Whether it is written ``--name``.
    """

    name: str
    flags: tuple[str, ...]
    value: str
    about: str
    default: Any
    kind: Any
    choices: tuple[str, ...]
    least: int
    is_named: bool

    @property
    def required(self) -> bool:
        """Return whether a call must give it."""
        return self.default is MISSING

    def problem(self, value: str) -> str:
        """Return what is wrong with a value, empty if nothing is.

        Args:
            value: The first value, empty for none.
        """
        if not value:
            return "needs a value." if self.least else ""
        if self.choices and self.least and value not in self.choices:
            return f"{value!r} is unknown. Expected is one of {', '.join(self.choices)}."
        if self.kind in (int, float) and self.least:
            try:
                self.kind(value)
            except ValueError:
                return f"{value!r} is not a {'whole number' if self.kind is int else 'number'}."
        return ""

    @property
    def line(self) -> str:
        """Return its help text with the default, where that says something."""
        if self.required:
            return f"{self.about.removesuffix('.')} (required)."
        if "default" in self.about.lower() or self.default is False or self.default in (None, (), ""):
            return self.about
        shown = " ".join(map(str, self.default)) if isinstance(self.default, tuple) else str(self.default)
        return f"{self.about} Default: {shown}."


def command_help(program: str, options: type[Any], width: int) -> str:
    """Return the help text of a command.

    Args:
        program: How the command was called.
        options: Dataclass of its options.
        width: Characters of a line.
    """
    width = min(width, _WIDEST)
    known = options_of(options)
    positional = " ".join(option.value for option in known if not option.is_named)
    about = inspect.cleandoc(options.__doc__ or "").split("\n\n")
    lines = [f"usage: {program} {positional + ' ' if positional else ''}[OPTIONS]", ""]
    for paragraph in about:
        lines += [*textwrap.wrap(paragraph, width, break_on_hyphens=False), ""]
    for title, some in _grouped(known).items():
        lines += [f"{title}:", *(line for option in some for line in _entry(option, width)), ""]
    lines += _examples(program)
    return "\n".join(lines).rstrip()


def commands_help(program: str, commands: Mapping[str, type[Any]], default: str | None, width: int) -> str:
    """Return the help text of a command that has commands of its own.

    Args:
        program: How it was called.
        commands: Name → dataclass of the options.
        default: Command that is meant if none is named.
        width: Characters of a line.
    """
    width = min(width, _WIDEST)
    lines = [f"usage: {program} {'|'.join(commands)} [OPTIONS]", ""]
    for name, options in commands.items():
        text = inspect.cleandoc(options.__doc__ or "").split("\n\n")[0]
        text += " The default command." if name == default else ""
        lines += _columns(name, text, width, 12)
    lines += ["", f"Options of a command: {program} {next(iter(commands))} --help", "", *_examples(program)]
    return "\n".join(lines).rstrip()


def options_of(options: type[Any]) -> list[Option]:
    """Return the options of a command line.

    Args:
        options: Dataclass with a default and a help text for each option.
    """
    texts, hints = _texts(options), get_type_hints(options, include_extras=True)
    named = [field for field in fields(options) if tyro.conf.Suppress not in get_args(hints[field.name])]
    return [_option(field, hints[field.name], texts.get(field.name, "")) for field in named]


def settings_instead(keys: Iterable[str]) -> dict[str, str]:
    """Return what to write in place of options that have the names of configuration keys.

    Args:
        keys: Dotted keys that ``--set`` takes.

    Example:
        >>> settings_instead(["optimizer.lr", "training.batch_size", "loss.name"])
        {'lr': '--set optimizer.lr=', 'batch-size': '--set training.batch_size=', 'loss': '--set loss.name='}
    """
    names = {key: key.removesuffix(".name").rpartition(".")[2].replace("_", "-") for key in keys}
    return {name: f"--set {key}=" for key, name in names.items()}


def _option(field: Field[Any], hint: Any, text: str) -> Option:
    settings: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *settings = get_args(hint)
    # What tyro.conf.arg and tyro.conf.Positional leave in an annotation.
    of_arg = [one for one in settings if hasattr(one, "metavar")]
    is_named = bool(of_arg) or not settings
    name = next((one.name for one in of_arg if one.name), field.name)
    aliases = tuple(alias for one in of_arg for alias in one.aliases or ())
    metavar = next((one.metavar for one in of_arg if one.metavar), "")
    if get_origin(hint) in (Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not NoneType)
    several = get_origin(hint) is tuple
    kind = get_args(hint)[0] if several else hint
    choices = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
    value = metavar or "|".join(choices) or _VALUES.get(kind, "") or "TEXT"
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        return Option(field.name, (f"--no-{flag[2:]}", flag), "", text, field.default, bool, (), 0, is_named)
    value = field.name.upper() if not is_named and not choices else value
    value += " ..." if several and not metavar else ""
    flags = (*aliases, flag) if is_named else (name,)
    return Option(field.name, flags, value, text, field.default, kind, choices, int(not several), is_named)


def _texts(options: type[Any]) -> dict[str, str]:
    """Return the docstring below each field, by the field's name; a subclass's own comes first."""
    texts: dict[str, str] = {}
    for kind in reversed(options.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        for field, after in pairwise(getattr(definition, "body", ())):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                texts[field.target.id] = " ".join(str(after.value.value).split())
    return texts


def _grouped(options: Sequence[Option]) -> dict[str, list[Option]]:
    """Return the options by the title of their group, each in the order of ``GROUPS``."""
    named = {option.name: option for option in options if option.is_named}
    groups = {"arguments": [option for option in options if not option.is_named]}
    if len(options) > FEW:
        for title, names in GROUPS.items():
            groups[title] = [named.pop(name) for name in names if name in named]
    groups["other options" if len(options) > FEW else "options"] = list(named.values())
    return {title: some for title, some in groups.items() if some}


def _entry(option: Option, width: int) -> list[str]:
    flag = f"{option.flags[-1]} {option.value}".rstrip() if option.is_named else option.value
    return _columns(flag, option.line, width, _COLUMN)


def _columns(left: str, right: str, width: int, column: int) -> list[str]:
    """Return a name and its text in two columns; the text begins below a name that is too long."""
    indent = " " * column
    text = textwrap.wrap(right, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(left) + 4 <= column and text:
        return [f"  {left:<{column - 2}}{text[0].lstrip()}", *text[1:]]
    wrapped = textwrap.wrap(
        left.replace("|", "| "), width - 2, initial_indent="  ", subsequent_indent="      ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [*(line.replace("| ", "|") for line in wrapped), *text]


def _examples(program: str) -> list[str]:
    """Return the examples of the called command as lines; long ones continue after a backslash."""
    base = program
    found: Sequence[str] = ()
    for name, command in COMMANDS.items():
        for call in (f"ambivalent {name}", f"python -m {command.script}"):
            if program == call or program.startswith(call + " "):
                base, found = call, command.examples
        if program.endswith(command.script) and command.script.endswith(".py"):
            found = command.examples
    if not found:
        return []
    lines = ["examples:"]
    for example in found:
        line = f"{base} {example}".rstrip()
        lines += [f"  {part}" for part in _shell_lines(line)]
    return lines


def _shell_lines(line: str, width: int = 76) -> list[str]:
    """Return a command as lines that a shell reads as one."""
    parts = textwrap.wrap(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return [*(f"{part} \\" for part in parts[:-1]), parts[-1]]
