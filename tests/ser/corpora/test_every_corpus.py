"""Properties of every corpus, on a small folder of each."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio.embedded import file_of
from ser.corpora import NAMES, Corpus, load, without
from ser.corpora.classes import choose_classes
from ser.corpora.corpus import count_votes
from ser.description.summary import describe
from ser.features.store import open_store
from ser.metrics.agreement import strata
from ser.noise import NAMED_LEVELS
from ser.splits import check_disjoint, split
from ser.training.task import make_task
from ser.utils.errors import DataErrors, UserError
from tests.helpers.corpus_trees import BUILDERS

CLASSES_OF_CREMA_D = {
    "emodb": "anger,disgust,fear,happiness,neutral,sadness",
    "esd": "angry,happy,neutral,sad",
}
"""Choices that levels without votes need, for corpora that have other classes by default."""


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    folder = tmp_path_factory.mktemp("corpora")
    return {name: BUILDERS[name](folder / name) if name in BUILDERS else None for name in NAMES}


@pytest.fixture(scope="session", params=NAMES)
def corpus(request: pytest.FixtureRequest, roots: dict[str, Path | None]) -> Corpus:
    return load(request.param, roots[request.param])


def test_rows_are_sorted_complete_and_of_its_classes(corpus: Corpus) -> None:
    table = corpus.table
    assert list(table["utterance_id"]) == sorted(set(table["utterance_id"]))
    assert list(table.index) == list(range(len(corpus)))
    assert [corpus.classes[index] for index in corpus.labels] == list(table["label"])
    assert corpus.synthesize is not None or all(Path(file_of(path)).is_file() for path in table["path"])


def test_the_digest_is_that_of_the_data_wherever_they_lie(
    corpus: Corpus, roots: dict[str, Path | None], tmp_path: Path
) -> None:
    again = load(corpus.name, BUILDERS[corpus.name](tmp_path) if corpus.name in BUILDERS else None)
    assert again.digest == corpus.digest


def test_an_utterance_left_out_is_named_and_changes_both_digests(corpus: Corpus) -> None:
    first = corpus.table["utterance_id"][0]
    rest = without(corpus, [first])
    assert without(corpus, []).digest == corpus.digest
    assert rest.digest != corpus.digest
    assert rest.audio_digest != corpus.audio_digest
    assert rest.excluded == (first,)
    assert list(rest.table["utterance_id"]) == list(corpus.table["utterance_id"][1:])


def test_a_changed_label_changes_the_digest_but_not_the_audio_digest(corpus: Corpus) -> None:
    table = corpus.table.copy()
    table.loc[0, "label"] = next(name for name in corpus.classes if name != table.loc[0, "label"])
    changed = Corpus(corpus.name, table, corpus.classes, corpus.root, corpus.synthesize)
    assert changed.digest != corpus.digest
    assert changed.audio_digest == corpus.audio_digest


def test_votes_are_those_of_the_annotations_and_strata_cover_them(corpus: Corpus) -> None:
    if corpus.votes is None:
        assert set(corpus.table["votes"]) == {None}
        return
    if corpus.annotations is not None:
        counted, others = count_votes(corpus.annotations, list(corpus.table["utterance_id"]), corpus.classes)
        assert np.array(counted).tolist() == corpus.votes.tolist()
        assert others == corpus.other_votes.tolist()
    kinds = strata(corpus.votes, corpus.other_votes)
    assert set(kinds) <= {"unanimous", "majority", "plurality", "none"}
    unanimous = (corpus.votes.max(axis=1) == corpus.votes.sum(axis=1)) & (corpus.other_votes == 0)
    assert (kinds == "unanimous").tolist() == unanimous.tolist()


def test_every_fold_and_level_gives_a_task_without_leaks(corpus: Corpus, tmp_path: Path) -> None:
    if corpus.name in CLASSES_OF_CREMA_D:
        corpus = choose_classes(corpus, CLASSES_OF_CREMA_D[corpus.name])
    store = open_store(corpus, "panns_16k", tmp_path)
    for by in ("auto", "speaker"):
        first = split(corpus, 1, by)
        for number in range(1, min(first.count, 3) + 1):
            check_disjoint(corpus, split(corpus, number, by), store.content)
    for level in NAMED_LEVELS:
        task = make_task(corpus, split(corpus, 1), store.path, level, 0)
        for name in ("train", "validation"):
            subset, rate = task.manifest["parts"][name], task.manifest["rate_asked"]
            if task.manifest["eligible_share_asked"] is None and rate is not None:
                assert subset["flipped"] == int(rate * subset["utterances"] + 0.5)
    assert store.built


def test_its_description_is_finite_and_counts_every_utterance(corpus: Corpus) -> None:
    found = describe(corpus)
    text = json.dumps(found.numbers, allow_nan=False)
    assert found.errors == ()
    assert json.loads(text)["size"]["utterances"] == len(corpus) == len(found.utterances)
    assert json.loads(text)["duplicates"] == []


@pytest.mark.parametrize("name", sorted(BUILDERS.keys() - {"huggingface"}))  # its audio is in cells, not in files
def test_a_silent_copied_or_missing_file_is_named_and_can_be_left_out(name: str, tmp_path: Path) -> None:
    root = BUILDERS[name](tmp_path)
    paths = list(load(name, root).table["path"])
    soundfile.write(paths[0], np.zeros(8000), 16000)
    Path(paths[1]).write_bytes(b"RIFF")
    with pytest.raises(DataErrors) as error:
        open_store(load(name, root), "panns_16k", tmp_path / "store")
    assert len(error.value.errors) == 2
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(str(error.value).splitlines()[1:-1]), encoding="utf-8")  # as they were printed
    rest = load(name, root, listed)
    assert len(rest.excluded) == 2
    assert open_store(rest, "panns_16k", tmp_path / "store").built


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_an_empty_folder_reports_the_layout(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(name, tmp_path)
    assert str(tmp_path) in str(error.value)
