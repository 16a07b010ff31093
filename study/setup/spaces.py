"""Search spaces: loads them and turns their Ray Tune domains into Optuna distributions."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import optuna
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Domain

import search_spaces
from ser.config import Config, LossConfig
from ser.features.front_ends import Extractor
from ser.training.embeddings import extractor
from ser.utils.errors import UserError, unknown_name

# Random configurations, besides the points to evaluate, that stand for a whole space in checks and descriptions.
RANDOM_CONFIGURATIONS = 20


@dataclass(frozen=True)
class Space:
    """A search space that Optuna can sample.

    Args:
        name: Name of its file, without the suffix.
        source: First line of its docstring.
        domains: Optuna distributions by dotted name, or a define-by-run function.
        constants: Values that every trial has, by dotted name.
        points_to_evaluate: Configurations to evaluate first (``POINTS`` of the file).
    """

    name: str
    source: str
    domains: Mapping[str, Any] | Callable[[optuna.Trial], dict[str, Any]]
    constants: Mapping[str, Any]
    points_to_evaluate: tuple[Mapping[str, Any], ...]

    def ask(self, study: optuna.Study) -> tuple[optuna.Trial, dict[str, Any]]:
        """Ask an Optuna study for the next configuration.

        Args:
            study: Study with the sampler to use.

        Returns:
            The Optuna trial, whose ``params`` are the searched parameters, and all parameters by dotted name.
        """
        if callable(self.domains):
            trial = study.ask()
            returned = self.domains(cast(optuna.Trial, _FreeTrial(trial, self.constants))) or {}
            values = {**returned, **trial.params}
            free = {key: value for key, value in values.items() if not _is_fixed(key, self.constants)}
            return trial, {**free, **self.constants}
        trial = study.ask(dict(self.domains))
        return trial, {**trial.params, **self.constants}

    def check(self, defaults: Mapping[str, Any]) -> tuple[str, ...]:
        """Build a configuration from each point and from random samples, so that mistakes show before a trial starts.

        Args:
            defaults: Default parameters by dotted name.

        Returns:
            The searched parameters, sorted.

        Raises:
            UserError: A configuration cannot be built.

        Example:
            >>> load_space("label_smoothing", {}).check({})
            ('loss.epsilon', 'optimizer.lr', 'optimizer.weight_decay')
        """
        searched: set[str] = set()
        for trial, values in self._samples():
            try:
                Config.from_dotted({**defaults, **values})
            except UserError as error:
                raise UserError(f"space {self.name!r}: {error}") from error
            searched |= set(trial.params)
        return tuple(sorted(searched - set(self.constants)))

    def examples(self) -> Iterator[dict[str, Any]]:
        """Yield the points to evaluate, then random samples, as parameters by dotted name.

        Example:
            >>> first = next(load_space("label_smoothing", {}).examples())
            >>> first["loss.name"], first["loss.epsilon"]
            ('label_smoothing', 0.1)
        """
        for _, values in self._samples():
            yield values

    def loss_names(self) -> tuple[str, ...]:
        """Return the names of the losses of the points and of random samples, sorted.

        Example:
            >>> load_space("proselflc", {}).loss_names()
            ('proselflc',)
        """
        return tuple(sorted({values.get("loss.name", LossConfig.name) for values in self.examples()}))

    def configurations(self, defaults: Mapping[str, Any]) -> Iterator[Config]:
        """Yield the configurations of the points and of random samples.

        Args:
            defaults: Default parameters by dotted name.
        """
        return (Config.from_dotted({**defaults, **values}) for values in self.examples())

    def extractor(self, defaults: Mapping[str, Any]) -> Extractor:
        """Return the extractor of the features that the models of this space read.

        Args:
            defaults: Default parameters by dotted name.

        Raises:
            UserError: The models read several front ends, or one that is not available.
        """
        found = {read.front_end.name: read for read in map(extractor, self.configurations(defaults))}
        if len(found) > 1:
            raise UserError(
                f"space {self.name!r}: its models read {' and '.join(sorted(found))}, expected one front end for all. "
                "Write one space for each; a study can search several spaces."
            )
        return next(iter(found.values()))

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return the distribution of each searched parameter; those of a conditional space come from samples.

        Example:
            >>> load_space("label_smoothing", {"optimizer.lr": 1e-3}).distributions()["loss.epsilon"].high
            0.5
        """
        found: dict[str, optuna.distributions.BaseDistribution] = {}
        for trial, _ in self._samples():
            for key, distribution in trial.distributions.items():
                found.setdefault(key, distribution)
        return found

    def largest(self, key: str, defaults: Mapping[str, Any]) -> float | None:
        """Return the largest value that a numeric parameter can take, None if no trial has the parameter.

        Args:
            key: Dotted name of the parameter.
            defaults: Default parameters by dotted name.

        Example:
            >>> load_space("proselflc", {}).largest("loss.transit_time_ratio", {})
            0.8
            >>> load_space("cross_entropy", {}).largest("loss.transit_time_ratio", {}) is None
            True
        """
        found = [defaults[key]] if key in defaults else []
        for trial, values in self._samples():
            found += [values[key]] if key in values else []
            if (distribution := trial.distributions.get(key)) is not None:
                choices = getattr(distribution, "choices", None)
                found += choices if choices is not None else [getattr(distribution, "high", None)]
        numbers = [float(value) for value in found if isinstance(value, (int, float))]
        return max(numbers, default=None)

    def describe(self) -> list[str]:
        """Return name, source, parameters with their ranges, and points, as lines for the terminal."""
        found = self.ranges()
        width = max(map(len, found), default=0)
        lines = [self.name, f"  {self.source}"]
        lines += [f"    {key:<{width}}  {values}" for key, values in found.items()]
        for number, point in enumerate(self.points_to_evaluate, start=1):
            lines.append(f"    point {number}: " + ", ".join(f"{key} {_short(value)}" for key, value in point.items()))
        return lines

    def ranges(self) -> dict[str, str]:
        """Return the possible values of each parameter in words, by dotted name, sorted.

        Example:
            >>> load_space("label_smoothing", {}).ranges()["optimizer.lr"]
            '0.0003 to 0.01, logarithmic'
        """
        samples = list(self._samples())
        found: dict[str, dict[str, None]] = {}  # a dict as a set that keeps its order
        for trial, values in samples:
            for key in values.keys() - trial.params.keys():
                found.setdefault(key, {})[f"= {values[key]}"] = None
        for trial, _ in samples:
            for key, distribution in trial.distributions.items():
                found.setdefault(key, {})[_range(distribution)] = None
        return {key: " or ".join(found[key]) for key in sorted(found)}

    def _samples(self) -> Iterator[tuple[optuna.Trial, dict[str, Any]]]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for point in self.points_to_evaluate:
            study.enqueue_trial(dict(point))
        for _ in range(len(self.points_to_evaluate) + RANDOM_CONFIGURATIONS):
            yield self.ask(study)


class _FreeTrial:
    """Trial that suggests only what is not fixed; a fixed parameter has its value, a part of a fixed group None."""

    def __init__(self, trial: optuna.Trial, fixed: Mapping[str, Any]) -> None:
        self._trial, self._fixed = trial, fixed

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._trial, attribute)
        if attribute == "params":
            return {**self._fixed, **found}
        if not attribute.startswith("suggest_"):
            return found

        def suggest(name: str, *args: Any, **kwargs: Any) -> Any:
            return self._fixed.get(name) if _is_fixed(name, self._fixed) else found(name, *args, **kwargs)

        return suggest


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
    """Return the names of the spaces that come with the project, sorted.

    Example:
        >>> "proselflc" in space_names()
        True
    """
    return sorted(module.name for module in pkgutil.iter_modules(search_spaces.__path__))


def load_space(name: str, fixed: Mapping[str, Any]) -> Space:
    """Load a search space by name or from a Python file.

    Args:
        name: Name of a space in ``search_spaces``, or path of a file that ends in ``.py``.
        fixed: Parameters by dotted name that have one value for the whole study and so are not searched.

    Returns:
        The space without its fixed parameters.

    Raises:
        UserError: There is no such space, or it breaks the rules of ``search_spaces``.

    Example:
        >>> space = load_space("label_smoothing", {"optimizer.lr": 1e-3})
        >>> sorted(space.domains)
        ['loss.epsilon', 'optimizer.weight_decay']
        >>> space.constants
        {'loss.name': 'label_smoothing', 'optimizer.lr': 0.001}
    """
    module = _load_module(name)
    title = module.__name__.rpartition(".")[2]
    domains, points = getattr(module, "SPACE", None), getattr(module, "POINTS", None)
    if not (callable(domains) or isinstance(domains, dict)) or not isinstance(points, list):
        raise UserError(f"space {name!r} must define SPACE (a dict or a function) and POINTS (a list of dicts).")
    documentation = inspect.getdoc(module)
    if not documentation:
        raise UserError(f"space {name!r} has no docstring. Add one whose first line cites the source of its ranges.")
    source = documentation.splitlines()[0]
    if callable(domains):
        points = tuple({key: value for key, value in point.items() if not _is_fixed(key, fixed)} for point in points)
        return Space(title, source, domains, dict(fixed), points)
    free = {key: value for key, value in domains.items() if not _is_fixed(key, fixed)}
    searched = {key: value for key, value in free.items() if isinstance(value, Domain)}
    constants = {key: value for key, value in free.items() if key not in searched}
    for number, point in enumerate(points, start=1):
        if missing := [key for key in searched if key not in point]:
            raise UserError(
                f"space {name!r}: point {number} in POINTS lacks {', '.join(missing)}. Give a value for every searched "
                "parameter."
            )
    return Space(
        title,
        source,
        OptunaSearch.convert_search_space(searched) if searched else {},
        {**constants, **fixed},
        tuple({key: point[key] for key in searched} for point in points),
    )


def _is_fixed(key: str, fixed: Collection[str]) -> bool:
    """Return whether a parameter, a group that it belongs to, or a part of it is fixed.

    ``loss.temperature``, for example, is a constant temperature, and ``loss.temperature.kind`` part of its schedule.
    """
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in fixed)


def _load_module(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix != ".py":
        if name not in space_names():
            raise unknown_name("space", name, space_names())
        return importlib.import_module(f"search_spaces.{name}")
    if not path.is_file():
        raise UserError(f"space file {name!r} does not exist; give its path, or one of {', '.join(space_names())}.")
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file can fail with anything
        raise UserError(f"space file {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    return module
