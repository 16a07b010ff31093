"""Configuration files: YAML or JSON with nested or dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ser.config import Config, flatten
from ser.utils.command_help import settings_instead
from ser.utils.errors import UserError


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file of nested or dotted names.

    Args:
        path: File.

    Returns:
        Dotted names and values, for ``Config.from_dotted``.

    Raises:
        UserError: The file is missing or not a mapping, or sets a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(
            f"configuration file {str(path)!r} cannot be read: {error.strerror or error}. Check --config."
        ) from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"configuration file {str(path)!r} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"configuration file {str(path)!r} must hold names and values, such as 'optimizer: {{lr: 0.001}}'."
        )
    try:
        return flatten(content)
    except RecursionError as error:
        raise UserError(
            f"configuration file {str(path)!r} has a YAML alias that contains itself. Remove it."
        ) from error


def config_text(values: Mapping[str, Any]) -> str:
    """Return a configuration as YAML, sorted by name.

    Args:
        values: Dotted names and values.

    Example:
        >>> print(config_text({"optimizer.lr": 0.001, "loss.name": "elr"}), end="")
        loss.name: elr
        optimizer.lr: 0.001
    """
    # Sorted here: a library that a corpus format needs makes PyYAML keep the order of mappings.
    return yaml.safe_dump(dict(sorted(values.items())), sort_keys=True)


class _UniqueKeys(yaml.SafeLoader):
    """YAML loader that rejects repeated keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping.

        Raises:
            yaml.YAMLError: A key is repeated.
        """
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is set twice", node.start_mark)
        return super().construct_mapping(node, deep)


def settings_as_options() -> dict[str, str]:
    """Return what to write in place of options that have the names of configuration keys, for ``parse``.

    Example:
        >>> settings_as_options()["width"]
        '--set model.width='
    """
    names = settings_instead([*Config().to_dotted(), "loss.name"])
    return {**names, "learning-rate": names["lr"]}
