"""Reads search spaces and turns them into what Optuna samples from."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Domain

import search_spaces
from ser.config import Config, LossConfig
from ser.features.front_ends import Extractor
from ser.training.embeddings import extractor
from ser.utils.errors import UserError, unknown_name

TRIAL_DRAWS = 20


@dataclass(frozen=True)
class Space:
    """A search space, ready to be sampled.

    Args:
        name: Its file's name.
        source: The first line of its docstring.
        domains: Dotted names → Optuna distributions, or a define-by-run function.
        constants: Dotted names → values that every trial has.
        points: Configurations tried first.
    """

    name: str
    source: str
    domains: Mapping[str, Any] | Callable[[optuna.Trial], dict[str, Any]]
    constants: Mapping[str, Any]
    points: tuple[Mapping[str, Any], ...]

    def ask(self, study: optuna.Study) -> tuple[dict[str, Any], set[str]]:
        """One configuration's dotted names, and which of them were searched."""
        if callable(self.domains):
            trial = study.ask()
            returned = self.domains(trial) or {}
            return {**trial.params, **returned, **self.constants}, set(trial.params)
        trial = study.ask(dict(self.domains))
        return {**trial.params, **self.constants}, set(trial.params)

    def check(self, base: Mapping[str, Any]) -> tuple[str, ...]:
        """Builds configurations from the points and from random draws, so that mistakes show before a trial starts.

        Args:
            base: Dotted names that every trial of the study has.

        Returns:
            The searched names, sorted.

        Raises:
            UserError: A configuration that cannot be built.
        """
        searched: set[str] = set()
        for values, drawn in self._draws(self._study()):
            try:
                Config.from_dotted({**base, **values})
            except UserError as error:
                raise UserError(f"space {self.name!r}: {error}") from error
            searched |= drawn
        return tuple(sorted(searched - set(self.constants)))

    def examples(self) -> Iterator[dict[str, Any]]:
        """Configurations' dotted names: the points, then random draws."""
        for values, _ in self._draws(self._study()):
            yield values

    def loss_names(self) -> tuple[str, ...]:
        """The losses of the points and of random draws, sorted."""
        return tuple(sorted({values.get("loss.name", LossConfig.name) for values, _ in self._draws(self._study())}))

    def configurations(self, base: Mapping[str, Any]) -> Iterator[Config]:
        """Those of the points and of random draws.

        Args:
            base: Dotted names that every trial of the study has.
        """
        return (Config.from_dotted({**base, **values}) for values, _ in self._draws(self._study()))

    def extractor(self, base: Mapping[str, Any]) -> Extractor:
        """What gives the features that the models of the points and of random draws read.

        Args:
            base: Dotted names that every trial of the study has.

        Raises:
            UserError: They read several front ends, or one that cannot be had.
        """
        found = {read.front_end.name: read for read in map(extractor, self.configurations(base))}
        if len(found) > 1:
            raise UserError(
                f"space {self.name!r}: its models read {' and '.join(sorted(found))}. Make a space for each; one study "
                "can search them all."
            )
        return next(iter(found.values()))

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """What each searched key is drawn from; a conditional space's are those of the points and of random draws."""
        study = self._study()
        list(self._draws(study))
        found: dict[str, optuna.distributions.BaseDistribution] = {}
        for trial in study.get_trials(deepcopy=False):
            for key, distribution in trial.distributions.items():
                found.setdefault(key, distribution)
        return found

    def greatest(self, key: str, base: Mapping[str, Any]) -> float | None:
        """The greatest value that a numeric key can take, None if no trial has the key.

        Args:
            key: A dotted name.
            base: Dotted names that every trial of the study has.
        """
        study = self._study()
        found = [values[key] for values, _ in self._draws(study) if key in values]
        for trial in study.get_trials(deepcopy=False):
            if (distribution := trial.distributions.get(key)) is not None:
                choices = getattr(distribution, "choices", None)
                found += choices if choices is not None else [getattr(distribution, "high", None)]
        found += [base[key]] if key in base else []
        numbers = [float(value) for value in found if isinstance(value, (int, float))]
        return max(numbers, default=None)

    def describe(self) -> list[str]:
        """Name, source, keys with their ranges, and points, in lines for the terminal."""
        found = self.ranges()
        width = max(map(len, found), default=0)
        lines = [self.name, f"  {self.source}"]
        lines += [f"    {key:<{width}}  {values}" for key, values in found.items()]
        for number, point in enumerate(self.points, start=1):
            lines.append(f"    point {number}: " + ", ".join(f"{key} {_short(value)}" for key, value in point.items()))
        return lines

    def ranges(self) -> dict[str, str]:
        """Dotted names, sorted → what they can be, in words."""
        study = self._study()
        found: dict[str, dict[str, None]] = {}  # in the order of the draws
        for values, drawn in self._draws(study):
            for key in values.keys() - drawn:
                found.setdefault(key, {})[f"= {values[key]}"] = None
        for trial in study.get_trials(deepcopy=False):
            for key, distribution in trial.distributions.items():
                found.setdefault(key, {})[_range(distribution)] = None
        return {key: " or ".join(found[key]) for key in sorted(found)}

    def _study(self) -> optuna.Study:
        """A study that asks for the points, then at random."""
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for point in self.points:
            study.enqueue_trial(dict(point))
        return study

    def _draws(self, study: optuna.Study) -> Iterator[tuple[dict[str, Any], set[str]]]:
        for _ in range(len(self.points) + TRIAL_DRAWS):
            yield self.ask(study)


def _range(distribution: optuna.distributions.BaseDistribution) -> str:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return f"one of {', '.join(map(_short, distribution.choices))}"
    if isinstance(distribution, (optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution)):
        step = "" if distribution.step in (None, 1) else f" in steps of {distribution.step:g}"
        return f"{distribution.low:g} to {distribution.high:g}{step}{', logarithmic' if distribution.log else ''}"
    return str(distribution)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def space_names() -> list[str]:
    """The spaces that come with the project."""
    return sorted(module.name for module in pkgutil.iter_modules(search_spaces.__path__))


def load_space(name: str, pinned: Mapping[str, Any]) -> Space:
    """Loads a space by name, or by the path of a Python file.

    Args:
        name: Such as ``"proselflc"`` or ``"path/to/mine.py"``.
        pinned: Dotted names that are set for the whole study and so are not searched.

    Returns:
        The space.

    Raises:
        UserError: No such space, or one that breaks the rules of ``search_spaces``.
    """
    module = _load_module(name)
    title = module.__name__.rpartition(".")[2]
    space, points = getattr(module, "SPACE", None), getattr(module, "POINTS", None)
    if not (callable(space) or isinstance(space, dict)) or not isinstance(points, list):
        raise UserError(f"space {name!r} must define SPACE (a dict or a function) and POINTS (a list of dicts).")
    documentation = inspect.getdoc(module)
    if not documentation:
        raise UserError(f"space {name!r} needs a docstring that says where its ranges come from.")
    source = documentation.splitlines()[0]
    if callable(space):
        points = tuple({key: value for key, value in point.items() if key not in pinned} for point in points)
        return Space(title, source, space, dict(pinned), points)
    # A pinned key takes its parts along, and the whole that it is a part of: loss.temperature and its schedule.
    left = {
        key: value
        for key, value in space.items()
        if not any(key == fixed or key.startswith(f"{fixed}.") or fixed.startswith(f"{key}.") for fixed in pinned)
    }
    domains = {key: value for key, value in left.items() if isinstance(value, Domain)}
    for point in points:
        if missing := [key for key in domains if key not in point]:
            raise UserError(f"space {name!r}: a point in POINTS lacks {', '.join(missing)}; name every searched key.")
    constants = {key: value for key, value in left.items() if not isinstance(value, Domain)}
    return Space(
        title,
        source,
        OptunaSearch.convert_search_space(domains) if domains else {},
        {**constants, **pinned},
        tuple({key: point[key] for key in domains} for point in points),
    )


def _load_module(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix != ".py":
        if name not in space_names():
            raise unknown_name("space", name, space_names())
        return importlib.import_module(f"search_spaces.{name}")
    if not path.is_file():
        raise UserError(f"space file {name!r} does not exist.")
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"space file {name!r} fails: {type(error).__name__}: {error}") from error
    return module
