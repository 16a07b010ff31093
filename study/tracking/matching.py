"""Matches searches with their confirmations, and distinguishes spaces of one name and different content.

An experiment can hold several corpora, protocols, searches and confirmations. What is shown together belongs together:
a confirmation has the protocol ``confirm_protocol(P)`` if it tests what a search of protocol P has found.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run

from ser.models.encoders.source import is_encoder
from ser.models.linear_probe import LINEAR_PROBE
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import digest
from study.schema import CONFIRM, KIND, PARENT, SEARCH, SELECTIONS, TRIAL, Tag
from study.tracking.store import find_run, quoted

UNKNOWN_CONTENT = "unknown"

ANY_ARITHMETIC = "any"
"""Value in place of an arithmetic, for trials of all."""

SHORTEST_DIGEST = 6

NEEDED = (
    Tag.STUDY, Tag.SPACE, Tag.NOISE, Tag.NOISE_RATE, Tag.TRIAL, Tag.PROTOCOL, Tag.SELECT_ON, Tag.SEARCHED,
)  # fmt: skip
NEEDED_TO_CONFIRM = (Tag.CANDIDATE, Tag.SOURCE, Tag.SEED, Tag.FOLD)


@dataclass(frozen=True)
class Matched:
    """Trials that belong together: those comparable with the newest one, and those of the other stage that match them.

    Args:
        search: Trials of searches, all of one protocol.
        confirmed: Trials of confirmations, all of one protocol, of the same data.
        others: Trials of either stage that do not match the newest one.
        otherwise: Those of the others that match it but for their arithmetic.
        foreign: Number of runs that call themselves trials but lack tags of one; they are ignored.
        by_data: Whether the confirmations are of published defaults, on the data of the search but not of its protocol.
    """

    search: tuple[Run, ...] = ()
    confirmed: tuple[Run, ...] = ()
    others: tuple[Run, ...] = ()
    otherwise: tuple[Run, ...] = ()
    foreign: int = 0
    by_data: bool = False


def confirm_protocol(protocol: str) -> str:
    """Return the protocol digest of the confirmations of a search.

    Args:
        protocol: Protocol digest of the search.
    """
    return digest(["confirm", protocol])


def match(runs: Iterable[Run], study: str | None = None, arithmetic: str | None = None) -> Matched:
    """Match the newest trial with those that it can be shown with.

    Trials of a stage have one arithmetic, and its heads on embeddings one; a search and its confirmation may have two.

    Args:
        runs: Runs of an experiment, of any kind.
        study: Name of a search or a confirmation to which the newest trial shall belong; None for any.
        arithmetic: Arithmetic of the trials, or ``ANY_ARITHMETIC``; None for that of the newest trial of each stage.

    Returns:
        The trials that belong together; none if there is no trial, or none of that study or arithmetic.
    """
    trials = [run for run in runs if run.data.tags.get(KIND) == TRIAL]
    staged = {stage: [run for run in trials if run.data.tags.get(Tag.STAGE) == stage] for stage in (SEARCH, CONFIRM)}
    searched, confirmed = (list(filter(is_whole, found)) for found in staged.values())
    foreign = sum(map(len, staged.values())) - len(searched) - len(confirmed)
    of_study = [run for run in (*searched, *confirmed) if study in (None, run.data.tags[Tag.STUDY])]
    asked = [run for run in of_study if arithmetic in (None, ANY_ARITHMETIC, run.data.tags.get(Tag.ARITHMETIC))]
    if not asked:
        return Matched(others=(*searched, *confirmed), foreign=foreign)
    newest = newest_of(asked)
    same = [run for run in of_study if _same(run, newest, Tag.STAGE, Tag.PROTOCOL)]
    by_data = False
    if newest.data.tags[Tag.STAGE] == SEARCH:
        kept_search, kept_confirmed = same, _confirmations(same, searched, confirmed)
        if not kept_confirmed and (defaults := _of_same_data(newest, _without_search(confirmed, searched))):
            kept_confirmed, by_data = defaults, True
    else:
        kept_confirmed, kept_search = same, _searches(same, searched)
        if not kept_search and not any(run.data.tags[Tag.SOURCE] for run in same):
            kept_search = _of_same_data(newest, searched)
            by_data = bool(kept_search)
    comparable = [run for kept in (kept_search, kept_confirmed) for run in _of_arithmetic(kept, arithmetic)]
    shown = {run.info.run_id for run in comparable}
    return Matched(
        search=tuple(run for run in kept_search if run.info.run_id in shown),
        confirmed=tuple(run for run in kept_confirmed if run.info.run_id in shown),
        others=tuple(run for run in (*searched, *confirmed) if run.info.run_id not in shown),
        otherwise=tuple(run for run in (*kept_search, *kept_confirmed) if run.info.run_id not in shown),
        foreign=foreign,
        by_data=by_data,
    )


def is_whole(run: Run) -> bool:
    """Return whether a run of a stage has all tags of its trials, as runs that others have made or copied may not."""
    tags = run.data.tags
    needed = (*NEEDED, *(NEEDED_TO_CONFIRM if tags.get(Tag.STAGE) == CONFIRM else ()))
    return all(name in tags for name in needed) and tags[Tag.SELECT_ON] in SELECTIONS


def newest_of(runs: Iterable[Run]) -> Run:
    """Return the run that started last."""
    return max(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def space_contents(runs: Sequence[Run]) -> dict[str, str]:
    """Return the content of each run's space: its digest, empty where it cannot be known.

    Trials of earlier versions have no digest. They are of the content of their study's other trials of that space, as
    far as those have one digest, and a confirmed one of that of the trial that it was found by.

    Args:
        runs: Trials, and parents, with the tag ``space``.

    Returns:
        Run id → digest.
    """
    of_study: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        if found := run.data.tags.get(Tag.SPACE_DIGEST):
            of_study[_study_and_space(run)].add(found)
    known = {run.info.run_id: _content(run, of_study) for run in runs}
    for run in runs:
        found = known.get(run.data.tags.get(Tag.SOURCE, ""))
        if found and not of_study[_study_and_space(run)]:
            of_study[_study_and_space(run)].add(found)
    return {run.info.run_id: _content(run, of_study) for run in runs}


def space_names(runs: Iterable[Run]) -> dict[str, str]:
    """Return the name under which each run's space is shown.

    Spaces of one name and different content are distinguished: ``NAME@`` and the beginning of the content's digest, or
    ``NAME@unknown`` for trials of an earlier version.

    Args:
        runs: Trials that are shown together, and their parents; others are left out.

    Returns:
        Run id → name.
    """
    named = [run for run in runs if Tag.SPACE in run.data.tags and run.data.tags.get(KIND) in (TRIAL, PARENT)]
    contents = space_contents(named)
    found: dict[str, set[str]] = defaultdict(set)
    for run in named:
        if run.data.tags[KIND] == TRIAL:
            found[run.data.tags[Tag.SPACE]].add(contents[run.info.run_id])
    shown = {name: _told_apart(name, several) for name, several in found.items()}
    return {
        run.info.run_id: shown.get(name, {}).get(contents[run.info.run_id], name)
        for run in named
        for name in (run.data.tags[Tag.SPACE],)
    }


def several_contents(runs: Sequence[Run], names: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Return the spaces that are distinguished, with the studies that searched each.

    Args:
        runs: Trials.
        names: From ``space_names``.

    Returns:
        Name of the space → name shown → studies.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for run in sorted(runs, key=lambda run: names[run.info.run_id]):
        name, shown = run.data.tags[Tag.SPACE], names[run.info.run_id]
        if shown != name:
            studies = found.setdefault(name, {}).setdefault(shown, [])
            if run.data.tags[Tag.STUDY] not in studies:
                studies.append(run.data.tags[Tag.STUDY])
    return found


def find_experiment(
    client: MlflowClient, uri: str, asked: str | None, study: str | None, stages: Sequence[str]
) -> tuple[str, str]:
    """Return the name and id of an experiment.

    Args:
        client: The MLflow store.
        uri: URI of the store, for messages.
        asked: Name of the experiment; None is the one with the newest trial of these stages. Reports, registered
            models, pilots and runs that others have made do not count.
        study: Name of a study that the experiment must hold where it is not named; None for any.
        stages: Stages of the trials.

    Raises:
        UserError: There is no such experiment, no trial, no such study, or it is in several experiments.
    """
    experiments = {one.name: str(one.experiment_id) for one in client.search_experiments()}
    if asked is not None:
        if asked not in experiments:
            raise unknown_name("experiment", asked, experiments)
        return asked, experiments[asked]
    if study is not None:
        tags = {KIND: TRIAL, Tag.STUDY: study}
        holding = {name: one for name, one in experiments.items() if find_run(client, one, tags) is not None}
        if len(holding) > 1:
            raise UserError(
                f"--study {study!r} is in {len(holding)} experiments of {uri}: {', '.join(sorted(holding))}. Name one: "
                "--experiment NAME"
            )
        if holding:
            return next(iter(holding.items()))
    newest = [found for stage in stages if (found := _newest(client, list(experiments.values()), stage)) is not None]
    if not newest:
        raise UserError(f"there is no trial of a study in {uri}. Run a study first: {command_line('study/run.py')}")
    names = {one: name for name, one in experiments.items()}
    identifier = str(newest_of(newest).info.experiment_id)
    return names[identifier], identifier


def _newest(client: MlflowClient, experiments: list[str], stage: str) -> Run | None:
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STAGE}` = {quoted(stage)}"
    found = client.search_runs(experiments, query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


def _of_arithmetic(runs: Sequence[Run], asked: str | None) -> list[Run]:
    """Return the trials of an arithmetic, and those without one: of earlier versions, and of classical models."""
    recorded = [run for run in runs if Tag.ARITHMETIC in run.data.tags]
    if not recorded or asked == ANY_ARITHMETIC:
        return list(runs)
    if asked is not None:
        return [run for run in runs if run.data.tags.get(Tag.ARITHMETIC, asked) == asked]
    # A study of heads and of other networks trains the heads on CPUs where the others have GPUs.
    newest = {
        kind: newest_of(run for run in recorded if _is_head(run) == kind) for kind in set(map(_is_head, recorded))
    }
    return [
        run for run in runs if Tag.ARITHMETIC not in run.data.tags or _is_computed_alike(run, newest[_is_head(run)])
    ]


def _is_computed_alike(run: Run, other: Run) -> bool:
    """Return whether two trials have one arithmetic, but for a precision that their configurations have chosen.

    The precision is a part of the configuration unless it is ``auto``, so that a space may choose it or search it.
    """
    one, two = (each.data.tags[Tag.ARITHMETIC] for each in (run, other))
    chosen = any(each.data.params.get("training.precision", "auto") != "auto" for each in (run, other))
    return one == two or (chosen and devices_of(one) == devices_of(two))


def _is_head(run: Run) -> bool:
    """Return whether the model of a trial is a head on stored embeddings."""
    return is_head(run.data.params)


def is_head(parameters: Mapping[str, str]) -> bool:
    """Return whether a model is a head on stored embeddings, which takes no GPU unless asked to.

    Args:
        parameters: Configuration by dotted name, as a run has it.
    """
    name = parameters.get("model.name", "")
    return name == LINEAR_PROBE or (is_encoder(name) and parameters.get("model.freeze") == "base")


def devices_of(arithmetic: str) -> list[str]:
    """Return the kinds of devices that computed a training, one after the other.

    Args:
        arithmetic: Value of its tag.

    Example:
        >>> devices_of("cuda bfloat16, then cpu float32")
        ['cuda', 'cpu']
    """
    return [word for word in arithmetic.split() if word in ("cpu", "cuda")]


def _same(run: Run, other: Run, *tags: str) -> bool:
    return all(run.data.tags.get(tag, "") == other.data.tags.get(tag, "") for tag in tags)


def _confirmations(search: Sequence[Run], every: Sequence[Run], confirmed: Sequence[Run]) -> list[Run]:
    """Return the newest confirmations of a search, but those that tested only what other searches have found."""
    ids = {run.info.run_id for run in search}
    other_ids = {run.info.run_id for run in every} - ids
    protocol = confirm_protocol(search[0].data.tags[Tag.PROTOCOL])
    by_source = {run.data.tags[Tag.PROTOCOL] for run in confirmed if run.data.tags[Tag.SOURCE] in ids}
    found = [run for run in confirmed if run.data.tags[Tag.PROTOCOL] in {protocol, *by_source}]
    of_others = {run.data.tags[Tag.STUDY] for run in found if run.data.tags[Tag.SOURCE] in other_ids}
    of_others -= {run.data.tags[Tag.STUDY] for run in found if run.data.tags[Tag.SOURCE] in ids}
    return _of_newest_protocol([run for run in found if run.data.tags[Tag.STUDY] not in of_others])


def _searches(confirmed: Sequence[Run], search: Sequence[Run]) -> list[Run]:
    """Return the search that confirmations tested."""
    sources = {run.data.tags[Tag.SOURCE] for run in confirmed} - {""}
    protocol = confirmed[0].data.tags[Tag.PROTOCOL]
    found = {run.data.tags[Tag.PROTOCOL] for run in search if run.info.run_id in sources}
    return _of_newest_protocol(
        [run for run in search if (own := run.data.tags[Tag.PROTOCOL]) in found or confirm_protocol(own) == protocol]
    )


def _without_search(confirmed: Sequence[Run], search: Sequence[Run]) -> list[Run]:
    """Return the trials of confirmations of published defaults, which tested nothing that a search has found."""
    of_searches = {confirm_protocol(protocol) for protocol in {run.data.tags[Tag.PROTOCOL] for run in search}}
    of_searches |= {run.data.tags[Tag.PROTOCOL] for run in confirmed if run.data.tags[Tag.SOURCE]}
    return [run for run in confirmed if run.data.tags[Tag.PROTOCOL] not in of_searches]


def _of_same_data(run: Run, others: Sequence[Run]) -> list[Run]:
    """Return the newest comparable trials that have a run's corpus and selection rule."""
    return _of_newest_protocol(
        [
            other
            for other in others
            if other.data.tags.get(Tag.CORPUS_DIGEST) and _same(other, run, Tag.CORPUS_DIGEST, Tag.SELECT_ON)
        ]
    )


def _of_newest_protocol(runs: Sequence[Run]) -> list[Run]:
    if not runs:
        return []
    newest = newest_of(runs)
    return [run for run in runs if _same(run, newest, Tag.PROTOCOL)]


def _study_and_space(run: Run) -> tuple[str, str]:
    return run.data.tags.get(Tag.STUDY, ""), run.data.tags[Tag.SPACE]


def _content(run: Run, of_study: Mapping[tuple[str, str], set[str]]) -> str:
    """Return a space's content: as recorded, else the only one of the study's other trials, else empty."""
    if found := run.data.tags.get(Tag.SPACE_DIGEST):
        return str(found)
    known = of_study.get(_study_and_space(run), set())
    return next(iter(known)) if len(known) == 1 else ""


def _told_apart(name: str, contents: set[str]) -> dict[str, str]:
    """Return content → name shown."""
    if len(contents) == 1:
        return dict.fromkeys(contents, name)
    length = SHORTEST_DIGEST
    while Counter(content[:length] for content in contents).most_common(1)[0][1] > 1:
        length += 1
    return {content: f"{name}@{content[:length] or UNKNOWN_CONTENT}" for content in contents}
