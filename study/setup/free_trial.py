"""The trial that a define-by-run space sees, in which some parameters are fixed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ser.utils.errors import UserError
from study.setup.space_rules import check_distribution

SUGGESTED: Mapping[str, Callable[..., BaseDistribution]] = {
    "suggest_float": FloatDistribution,
    "suggest_int": IntDistribution,
    "suggest_categorical": CategoricalDistribution,
}


class FreeTrial:
    """Trial that suggests only what is not fixed; a fixed parameter has its value, a part of a fixed group None.

    Args:
        trial: Optuna's trial.
        fixed: Values of the fixed parameters by dotted name.
    """

    def __init__(self, trial: optuna.Trial, fixed: Mapping[str, Any]) -> None:
        self._trial, self._fixed = trial, fixed
        self.storage_error: OSError | None = None
        """Why the storage of the trial could not be written, if that failed."""

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._trial, attribute)
        if attribute == "params":
            return {**self._fixed, **found}
        if not attribute.startswith("suggest_"):
            return found

        def suggest(name: str, *args: Any, **kwargs: Any) -> Any:
            if is_fixed(name, self._fixed):
                return self._fixed.get(name)
            asked = SUGGESTED[attribute](*args, **kwargs) if attribute in SUGGESTED else None
            if asked is not None:
                check_distribution(name, asked)
                if self._trial.distributions.get(name, asked) != asked:
                    raise UserError(f"its function suggests {name} twice, with different ranges.")
            try:
                return found(name, *args, **kwargs)
            except OSError as error:
                self.storage_error = error
                raise

        return suggest


def is_fixed(key: str, fixed: Collection[str]) -> bool:
    """Return whether a parameter, a group that it belongs to, or a part of it is fixed.

    Args:
        key: Dotted name of the parameter.
        fixed: Dotted names that are fixed.

    Example:
        >>> is_fixed("loss.temperature.kind", {"loss.temperature"}), is_fixed("loss.gamma", {"loss.temperature"})
        (True, False)
    """
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in fixed)
