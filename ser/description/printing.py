"""Tables of the numbers that ``ser.description.summary`` computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from ser.corpora.names import counted
from ser.description.summary import CLIPPED, QUIET
from ser.utils.errors import listed
from ser.utils.printing import print_table, say, wrapped

MAX_NAMES = 4
"""Utterances listed per group of duplicates; describe.json has all of them."""
MAX_GROUPS = 20
"""Groups of duplicates listed; describe.json has all of them."""

_TITLES = {"unanimous": "all for one", "majority": "more than half", "plurality": "most, not half", "none": "tie"}


def print_description(numbers: Mapping[str, Any], console: Console) -> None:
    """Print all numbers except the data errors.

    Args:
        numbers: ``Description.numbers``.
        console: A console without markup and emoji, because names may look like either.
    """
    _print_pairs(console, f"Corpus {numbers['corpus']}", [*_size(numbers), *_audio(numbers["audio"])])
    for line in numbers["audio"]["warnings"]:
        say(console, f"warning: {line}\n")
    _print_classes(console, numbers["classes"])
    if numbers["agreement"] is not None:
        _print_agreement(console, numbers["agreement"])
    else:
        say(console, "No votes, so no agreement of annotators.\n")
    if numbers["ratings"]:
        _print_ratings(console, numbers["ratings"])
    _print_folds(console, numbers["folds"])
    _print_duplicates(console, numbers["duplicates"])


def _size(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    size = numbers["size"]
    sessions = size["utterances_by_session"]
    pairs = [
        ("utterances", f"{size['utterances']}"),
        ("audio", f"{size['hours']:.2f} h"),
        ("shortest", f"{size['shortest_seconds']:.2f} s  {size['shortest_utterance']}"),
        ("median", f"{size['median_seconds']:.2f} s"),
        ("longest", f"{size['longest_seconds']:.2f} s  {size['longest_utterance']}"),
        ("speakers", f"{size['speakers']}: {_join_counts(size['speakers_by_gender'])}"),
        ("sessions", str(len(sessions)) if sessions else "none"),
        ("outside the classes", _join_counts(numbers["outside"], "{1} {0}") or "none"),
        ("excluded", _join_names(numbers["excluded"]) or "none"),
        ("files not used", listed((f"{count} {kind}" for kind, count in numbers["unused"].items())) or "none"),
    ]
    if several := size["speakers_of_several_genders"]:
        pairs.insert(6, ("of several genders", _join_names(several)))
    return pairs


def _audio(audio: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("sample rates", _join_counts(audio["sample_rates"], "{0} Hz: {1}")),
        ("channels", _join_counts(audio["channels"], "{0}: {1}")),
        ("formats", _join_counts(audio["formats"], "{0}: {1}")),
        ("median level", f"{audio['median_level_dbfs']:.0f} dBFS".replace("-", "−")),
        (f"below −{-QUIET:g} dBFS", counted(audio["quiet_utterances"])),
        (f"at ±{CLIPPED:g} or more", f"{audio['clipped_samples']} samples in {counted(audio['clipped_utterances'])}"),
    ]


def _print_classes(console: Console, classes: Sequence[Mapping[str, Any]]) -> None:
    genders = list(dict.fromkeys(gender for row in classes for gender in row["by_gender"]))
    numbers, rows = ["utterances", "share", "hours", "speakers", *genders], []
    for row in classes:
        counts = [str(row["by_gender"].get(gender, 0)) for gender in genders]
        shown = (row["class"], str(row["utterances"]), f"{row['share']:.1%}", f"{row['hours']:.2f}")
        rows.append([*shown, str(row["speakers"]), *counts])
    print_table(console, ["class", *numbers], rows, "Classes", numbers=numbers)


def _print_agreement(console: Console, found: Mapping[str, Any]) -> None:
    each, ceiling = found["votes_per_utterance"], found["human_ceiling"]
    who = f", {ceiling['annotators']} annotators" if ceiling["annotators"] else ""
    error = _number(ceiling["standard_error"])
    pairs = [
        ("votes", f"{found['votes']} on {found['utterances']} utterances{who}"),
        ("votes per utterance", f"min {each['min']}, median {each['median']:g}, max {each['max']}"),
        *((f"{name} ({_TITLES[name]})", f"{share:.1%}") for name, share in found["strata"].items()),
        ("Fleiss' kappa", _number(found["fleiss_kappa"])),
        ("Krippendorff's alpha", _number(found["krippendorff_alpha"])),
        ("human ceiling, UAR", f"{_number(ceiling['uar'])} ± {error} s.e., {ceiling['pairs']} pairs"),
        ("human ceiling, WA", _number(ceiling["accuracy"])),
    ]
    _print_pairs(console, f"Agreement over {found['over']}", pairs)
    within = [
        (
            "mean vote entropy",
            f"{_number(found['mean_vote_entropy'])} (0 to 1), {found['entropy_utterances']} utterances",
        )
    ]
    most = found["most_possible_disagreement"]
    within.append(("most disagreement noise", "not every utterance has votes" if most is None else f"{most:.1%}"))
    if (own := found["self_evaluations"]) is not None:
        scores = f"UAR {_number(own['uar'])}, WA {_number(own['accuracy'])}, {own['evaluations']} evaluations"
        within.append(("self against consensus", scores))
    _print_pairs(console, "Agreement over the corpus's utterances, votes for its classes", within)


def _print_ratings(console: Console, ratings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    rows = []
    for name in next(iter(ratings.values())):
        each = [some[name] for some in ratings.values()]
        rows.append([name, *(f"{_number(some['mean'], 2)} ± {_number(some['sd'], 2)}" for some in each)])
    print_table(console, ["class", *ratings], rows, "Ratings, mean ± standard deviation", numbers=list(ratings))


def _print_folds(console: Console, folds: Mapping[str, Any]) -> None:
    if folds["problem"] is not None:
        say(console, f"No folds: {folds['problem']}\n")
        return
    numbers, rows = ["fold", "speakers", "utterances", "hours"], []
    for number, fold in enumerate(folds["groups"], start=1):
        speakers = fold["speakers"]
        names = ", ".join(speakers) if len(speakers) <= 3 else f"{speakers[0]} … {speakers[-1]}"
        rows.append([str(number), names, str(len(speakers)), str(fold["utterances"]), f"{fold['hours']:.2f}"])
    columns = ["fold", "held out", *numbers[1:]]
    print_table(console, columns, rows, f"Folds by {folds['unit']}", numbers=numbers)
    title = f"Classes of fold {len(folds['groups'])}, which a study takes by default:"
    lines = [*(f"warning: {line}" for line in folds["warnings"]), *((title, *folds["last"]) if folds["last"] else ())]
    for line in lines:
        say(console, line)
    if lines:
        console.print()


def _print_duplicates(console: Console, groups: Sequence[Mapping[str, Any]]) -> None:
    if not groups:
        say(console, "No two utterances have the same audio.")
        return
    say(console, f"{len(groups)} groups of utterances with the same audio:" if len(groups) > 1 else "Same audio:")
    for group in groups[:MAX_GROUPS]:
        flags = [f"LABELS DIFFER: {', '.join(group['labels'])}"] if group["different_labels"] else []
        flags += [f"SPEAKERS DIFFER: {', '.join(group['speakers'])}"] if group["crosses_speakers"] else []
        names = group["utterances"]
        more = f" = {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        say(console, f"  {' = '.join(names[:MAX_NAMES])}{more}{''.join(f'; {flag}' for flag in flags)}")
    if len(groups) > MAX_GROUPS:
        say(console, f"  and {len(groups) - MAX_GROUPS} more; describe.json lists all of them (--output).")


def _print_pairs(console: Console, title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns; long values continue in theirs."""
    pairs = list(pairs)
    width = max(len(name) for name, _ in pairs) + 2
    say(console, title)
    for name, value in pairs:
        first, *more = (wrapped(value, console.width - width) if console.is_terminal else value).split("\n")
        console.print(f"{name:<{width}}{first}", soft_wrap=True)
        for line in more:
            console.print(f"{' ' * width}{line}", soft_wrap=True)
    console.print()


def _join_counts(counts: Mapping[str, int], form: str = "{1} {0}") -> str:
    return ", ".join(form.format(name, count) for name, count in counts.items())


def _join_names(names: Sequence[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)}: {', '.join(names[:5])}{rest}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
