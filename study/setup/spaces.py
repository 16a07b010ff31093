"""Search spaces: loads them and turns their Ray Tune domains into Optuna distributions."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

import search_spaces
from ser.config import Config, LossConfig, complete, explicit
from ser.features.front_ends import Extractor
from ser.labels import LabelKind
from ser.training.device.arithmetic import Device
from ser.training.embeddings import extractor
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import digest
from study.schema import method_name, space_and_labels
from study.setup.free_trial import FreeTrial, is_fixed
from study.setup.space_content import check_unchanged, content_of
from study.setup.space_rules import (
    check_constants,
    check_point,
    convert,
    describe_range,
    exact,
    kind,
    raised,
)

# Random configurations, besides the points to evaluate, that stand for a whole space in checks and descriptions.
RANDOM_CONFIGURATIONS = 20
# The same for the content of a space, by which a change of its file is found.
CONTENT_CONFIGURATIONS = 100

# Suggestions in a row that a space may prune, and how many of them are the sampler's.
DRAWS, SAMPLER_DRAWS = 1000, 10


class SuggestionError(UserError):
    """Mistake in a space that one of its suggestions has shown.

    Args:
        space: Name of the space.
        reason: What is wrong.
        trial: The Optuna trial of the suggestion, which is still running.
    """

    def __init__(self, space: str, reason: str, trial: optuna.Trial) -> None:
        super().__init__(f"space {space!r}: {reason}")
        self.reason, self.trial = reason, trial


@dataclass(frozen=True)
class Space:
    """A search space that Optuna can sample.

    Args:
        name: Name of its file, without the suffix.
        source: First line of its docstring.
        domains: Optuna distributions by dotted name, or a define-by-run function.
        constants: Values that every trial has, by dotted name.
        points_to_evaluate: Configurations to evaluate first (``POINTS`` of the file).
        path: Path of its file; empty for a space that comes with the project.
        declared: The space as its file has it, where parameters are fixed; None if none is.
        began: Digest of the content with which a resumed study began; empty for that of the present one.
        labels: Kind of labels that its trials train on; part of the name, unless it is ``consensus``.
    """

    name: str
    source: str
    domains: Mapping[str, Any] | Callable[[optuna.Trial], dict[str, Any]]
    constants: Mapping[str, Any]
    points_to_evaluate: tuple[Mapping[str, Any], ...]
    path: str = ""
    declared: Space | None = None
    began: str = ""
    labels: LabelKind = "consensus"

    def ask(
        self, study: optuna.Study, rest: optuna.samplers.BaseSampler | None = None
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Ask an Optuna study for the next configuration.

        A suggestion that the function of a conditional space prunes fails in the Optuna study, and another is asked
        for.

        Args:
            study: Study with the sampler to use.
            rest: Sampler to use once ten suggestions were pruned; None for that of the study.

        Returns:
            The Optuna trial, whose ``params`` are the searched parameters, and all parameters by dotted name.

        Raises:
            SuggestionError: The function raises or returns what it may not, or prunes everything.
        """
        drawn = 0
        while True:
            trial, drawn = self._next_trial(study), drawn + 1
            try:
                return trial, self._values(trial)
            except optuna.TrialPruned as error:
                if drawn == DRAWS:
                    reason = f"its function prunes {DRAWS} suggestions in a row. Prune less, or narrow the ranges."
                    raise SuggestionError(self.name, reason, trial) from error
                study.tell(trial, state=TrialState.FAIL)
            if drawn == SAMPLER_DRAWS and rest is not None:
                study.sampler = rest

    @property
    def digest(self) -> str:
        """Return the digest of the content; in a study that was widened, of the content that it began with."""
        return self.began or digest(self.content)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Return the content of the space's file as JSON-able values, whatever is fixed: domains, constants, points.

        Each parameter has a list of distributions, and of values where it is not searched; those of a conditional space
        come from samples.

        Example:
            >>> content = load_space("cross_entropy", {"loss.name": "focal"}).content
            >>> content["constants"], content["points"]
            ({'loss.name': ['cross_entropy']}, [{'optimizer.lr': 0.001, 'optimizer.weight_decay': 0.01}])
            >>> content["domains"]["optimizer.lr"][0]["attributes"]
            {'step': None, 'low': 0.0003, 'high': 0.01, 'log': True}
        """
        if self.declared is not None:
            return self.declared.content
        return content_of(self._sample(CONTENT_CONFIGURATIONS), self.points_to_evaluate)

    @property
    def record(self) -> dict[str, Any]:
        """Return digest and content, for the record of a study."""
        return {"digest": self.digest, "content": self.content}

    def began_as(
        self,
        record: Mapping[str, Any] | None,
        began: str,
        otherwise: str,
        *,
        widen: bool | None = None,
        ranges: bool = True,
    ) -> Space:
        """Return the space with the digest on record, if its content is still that on record.

        Args:
            record: ``Space.record`` of the study; None if it has none.
            began: What began with that content, for the message.
            otherwise: What to do other than to restore the file, for the message.
            widen: Whether the ranges may be wider than on record; None where nobody can ask for that.
            ranges: Whether the ranges are used, and not the constants and points alone.

        Raises:
            UserError: The space has changed.
        """
        if record is None:
            return self
        old, new = record["content"], self.content
        check_unchanged(self.name, self.path, old, new, began, otherwise, widen=widen, ranges=ranges)
        return replace(self, began=record["digest"])

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
        _ = self.content  # checks the points as the file has them
        searched: set[str] = set()
        for trial, values in self._samples:
            try:
                Config.from_dotted(complete(defaults, values))
            except UserError as error:
                raise UserError(f"space {self.name!r}: {error}") from error
            searched |= set(trial.params)
        return tuple(sorted(searched - set(self.constants)))

    def fix(self, fixed: Mapping[str, Any]) -> Space:
        """Return the space without parameters that have one value for the whole study.

        Args:
            fixed: Their values by dotted name.
        """
        points = tuple(
            {key: value for key, value in point.items() if not is_fixed(key, fixed)}
            for point in self.points_to_evaluate
        )
        if callable(self.domains):
            return replace(self, constants=dict(fixed), points_to_evaluate=points, declared=self)
        domains, constants = (
            {key: value for key, value in some.items() if not is_fixed(key, fixed)}
            for some in (self.domains, self.constants)
        )
        return replace(
            self, domains=domains, constants={**constants, **fixed}, points_to_evaluate=points, declared=self
        )

    def with_labels(self, labels: LabelKind) -> Space:
        """Return the space with another kind of training labels, which becomes part of its name."""
        return replace(self, name=method_name(self.own_name, labels), labels=labels)

    @property
    def own_name(self) -> str:
        """Return the name without the kind of labels."""
        return space_and_labels(self.name)[0]

    def emptied(self) -> Space:
        """Return the space with its content, but without anything to search, for trials that are known beforehand."""
        return replace(self, domains={}, constants={}, points_to_evaluate=(), declared=self.declared or self)

    def examples(self) -> Iterator[dict[str, Any]]:
        """Yield the points to evaluate, then random samples, as parameters by dotted name.

        Example:
            >>> first = next(load_space("label_smoothing", {}).examples())
            >>> first["loss.name"], first["loss.epsilon"]
            ('label_smoothing', 0.1)
        """
        for _, values in self._samples:
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
        return (Config.from_dotted(complete(defaults, values)) for values in self.examples())

    def extractor(self, defaults: Mapping[str, Any], device: Device = "cpu") -> Extractor:
        """Return the extractor of the features that the models of this space read.

        Args:
            defaults: Default parameters by dotted name.
            device: Kind of device that computes embeddings.

        Raises:
            UserError: The models read several front ends, or one that is not available.
        """
        read = (extractor(config, device) for config in self.configurations(defaults))
        found = {one.front_end.name: one for one in read}
        if len(found) > 1:
            raise UserError(
                f"space {self.name!r}: its models read {' and '.join(sorted(found))}, expected one front end for all. "
                "Write one space for each; a study can search several spaces."
            )
        return next(iter(found.values()))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the distribution of each searched parameter; those of a conditional space come from samples.

        Example:
            >>> load_space("label_smoothing", {"optimizer.lr": 1e-3}).distributions()["loss.epsilon"].high
            0.5
        """
        found: dict[str, BaseDistribution] = {}
        for trial, _ in self._samples:
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
        for trial, values in self._samples:
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
        samples = list(self._samples)
        found: dict[str, dict[str, None]] = {}  # a dict as a set that keeps its order
        for trial, values in samples:
            for key in values.keys() - trial.params.keys():
                found.setdefault(key, {})[f"= {values[key]}"] = None
        for trial, _ in samples:
            for key, distribution in trial.distributions.items():
                found.setdefault(key, {})[describe_range(distribution)] = None
        return {key: " or ".join(found[key]) for key in sorted(found)}

    @cached_property
    def _samples(self) -> list[tuple[optuna.Trial, dict[str, Any]]]:
        return self._sample(RANDOM_CONFIGURATIONS)

    def _sample(self, count: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
        """Return the points to evaluate and random samples."""
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        points = [self._point(study, number, point) for number, point in enumerate(self.points_to_evaluate, start=1)]
        return points + [self.ask(study) for _ in range(count)]

    def _point(self, study: optuna.Study, number: int, point: Mapping[str, Any]) -> tuple[optuna.Trial, dict[str, Any]]:
        study.enqueue_trial(dict(point))
        trial = self._next_trial(study)
        try:
            values = self._values(trial)
        except optuna.TrialPruned as error:
            raise UserError(
                f"space {self.name!r}: its function prunes point {number} in POINTS. Change the one or the other."
            ) from error
        except SuggestionError as error:
            raise UserError(f"space {self.name!r}, point {number} in POINTS: {error.reason}") from error
        if self.declared is None:
            try:
                check_point(number, point, trial.distributions, values)
            except UserError as error:
                raise UserError(f"space {self.name!r}: {error}") from error
        return trial, values

    def _next_trial(self, study: optuna.Study) -> optuna.Trial:
        return study.ask(None if callable(self.domains) else dict(self.domains))

    def _values(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return all parameters of a trial by dotted name.

        Raises:
            SuggestionError: The function raises or returns what it may not.
            optuna.TrialPruned: The function does not want the trial.
        """
        free = FreeTrial(trial, self.constants)
        try:
            returned = self._returned(free) if callable(self.domains) else {}
            return explicit({**returned, **trial.params, **self.constants})
        except (optuna.TrialPruned, KeyboardInterrupt):
            raise
        except BaseException as error:  # a user's function can fail with anything
            if free.storage_error is not None:
                raise free.storage_error from None
            at = ", ".join(f"{key} {exact(value)}" for key, value in trial.params.items())
            reason = str(error) if isinstance(error, UserError) else f"its function raises {raised(error, self.path)}."
            raise SuggestionError(self.name, f"{reason}{f' Suggested: {at}.' if at else ''}", trial) from error

    def _returned(self, trial: FreeTrial) -> dict[str, Any]:
        """Return what the function returns that is not fixed."""
        assert callable(self.domains)
        returned: object = self.domains(cast(optuna.Trial, trial))
        if returned is None:
            returned = {}
        if not isinstance(returned, dict):
            raise UserError(f"its function returns {kind(returned)}. Expected is a dict of constants, or None.")
        check_constants("its function returns", returned)
        for key in trial.distributions:
            if key in returned and returned[key] != trial.params[key]:
                raise UserError(
                    f"its function returns {key} = {returned[key]!r}, but has suggested {trial.params[key]!r} for it. "
                    "Give the value that is suggested a name of its own, or leave it as it is."
                )
        return {key: value for key, value in returned.items() if not is_fixed(key, self.constants)}


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
    if (like := space_and_labels(title)[0]) != title:
        raise UserError(
            f"space file {name!r}: the name {title!r} is that of {like!r} with other labels. Rename the file, or pass "
            "--labels."
        )
    path = str(module.__file__) if name.endswith(".py") else ""
    space, points = getattr(module, "SPACE", None), getattr(module, "POINTS", None)
    if not (callable(space) or isinstance(space, dict)) or not isinstance(points, list):
        raise UserError(f"space {name!r} must define SPACE (a dict or a function) and POINTS (a list of dicts).")
    for number, point in enumerate(points, start=1):
        if not isinstance(point, dict):
            raise UserError(
                f"space {name!r}: point {number} in POINTS is {kind(point)}. Expected is a dict of dotted names."
            )
    source = (inspect.getdoc(module) or "").partition("\n")[0]
    if not source:
        raise UserError(f"space {name!r} has no docstring. Add one whose first line cites the source of its ranges.")
    if callable(space):
        declared = Space(title, source, space, {}, tuple(points), path)
    else:
        try:
            searched, constants = convert(space)
            for number, point in enumerate(points, start=1):
                check_point(number, point, searched, constants)
        except UserError as error:
            raise UserError(f"space {name!r}: {error}") from error
        own = tuple({key: point[key] for key in searched} for point in points)
        declared = Space(title, source, searched, constants, own, path)
    return declared.fix(fixed) if fixed else declared


def _load_module(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix != ".py":
        if name not in space_names():
            raise unknown_name("space", name, space_names())
        return importlib.import_module(f"search_spaces.{name}")
    if not path.is_file():
        raise UserError(
            f"space file {name!r} does not exist. Restore it, give its path, or one of {', '.join(space_names())}."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's file can fail with anything
        raise UserError(f"space file {name!r} cannot be loaded: {raised(error, str(path.absolute()))}.") from error
    return module
