"""Every noise recipe on every corpus, with classes that are merged, renamed, left out or absent from the data."""

from pathlib import Path

import numpy as np
import pytest

from ser.corpora import Corpus, load
from ser.corpora.classes import choose_classes
from ser.corpora.names import emotion_of
from ser.noise import RECIPES, corrupt, corrupt_level
from ser.noise.crema_d_confusions import EMOTIONS, VOTE_SHARES
from ser.noise.recipes import recipe_named
from ser.utils.errors import DataErrors, UserError
from tests.helpers.corpus_trees import BUILDERS
from tests.helpers.tiny_corpora import corpus_of

NAMES = ["synthetic", *BUILDERS]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    """Return a small folder of each corpus."""
    folder = tmp_path_factory.mktemp("corpora")
    return {name: BUILDERS[name](folder / name) if name in BUILDERS else None for name in NAMES}


def choices(corpus: Corpus) -> dict[str, str]:
    """Return values of --classes that rename all classes, and that merge, rename and leave out some."""
    first, second, *rest = corpus.classes
    texts = {"renamed": ",".join(f"x{number}={name}" for number, name in enumerate(corpus.classes))}
    if rest:
        texts["merged"] = ",".join([f"joined={first}+{second}", f"other={rest[0]}", *rest[1:-1]])
    return texts


def matrix_file(folder: Path, classes: tuple[str, ...]) -> str:
    rates = np.full((len(classes), len(classes)), 0.5 / (len(classes) - 1))
    np.fill_diagonal(rates, 0.5)
    lines = [",".join([name, *map(str, row)]) for name, row in zip(classes, rates.tolist(), strict=True)]
    path = folder / f"{len(classes)}.csv"
    path.write_text("\n".join([",".join(["", *classes]), *lines]) + "\n", encoding="utf-8")
    return f"matrix:{path}"


def votes_for(corpus: Corpus, chosen: Corpus) -> np.ndarray:
    """Count the votes of the chosen classes from what each annotator said, or from the counts of the whole corpus."""
    members = {new: list(parts) for new, parts in chosen.composition.items()}
    rows = corpus.table["utterance_id"].isin(chosen.table["utterance_id"]).to_numpy()
    if corpus.annotations is None:
        assert corpus.votes is not None
        columns = [[corpus.classes.index(old) for old in olds] for olds in members.values()]
        return np.stack([corpus.votes[rows][:, some].sum(axis=1) for some in columns], axis=1)
    said = corpus.annotations[~corpus.annotations["is_self"].astype(bool)]
    said = [said[said["label"].isin(olds)].groupby("utterance_id")["annotator"].nunique() for olds in members.values()]
    return np.stack([one.reindex(chosen.table["utterance_id"], fill_value=0) for one in said], axis=1)


def possible(recipe: str, corpus: Corpus) -> bool:
    """Return whether a recipe can be used on a corpus; if not, its error must say so."""
    listeners = all(emotion_of(old) in EMOTIONS for parts in corpus.composition.values() for old in parts)
    voted = corpus.votes is not None
    if {"disagreement": voted, "human": listeners, "pair": voted or listeners}.get(recipe, True):
        return True
    with pytest.raises(UserError, match="no votes" if recipe == "disagreement" else "--classes"):
        recipe_named(recipe).chances(corpus)
    return False


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("absent", [False, True], ids=["all there", "one class excluded"])
def test_noise_lands_on_classes_of_the_data_alone(
    name: str, absent: bool, roots: dict[str, Path | None], tmp_path: Path
) -> None:
    whole, exclude = load(name, roots[name]), None
    if absent:
        if len(whole.classes) < 3:
            return
        exclude = tmp_path / "exclude.txt"
        gone = whole.table["utterance_id"][whole.table["label"] == whole.classes[0]]
        exclude.write_text("\n".join(gone), encoding="utf-8")
        whole = load(name, roots[name], exclude)
    for kind, text in choices(whole).items():
        corpus = load(name, roots[name], exclude, classes=text)
        size = len(corpus.classes)
        assert set(corpus.table["label"]) == set(corpus.classes)
        for recipe in (*RECIPES, matrix_file(tmp_path, corpus.classes)):
            if not possible(recipe, corpus):
                continue
            chances = recipe_named(recipe).chances(corpus)
            assert chances.shape == (len(corpus), size)
            assert (chances[np.arange(len(corpus)), corpus.labels] == 0).all()
            rate = 0.8 * float((chances.sum(axis=1) > 0).mean())
            noisy = corrupt(corpus, recipe, rate, 0)
            manifest = noisy.manifest
            assert manifest["classes"] == list(corpus.classes)
            assert set(noisy.labels) <= set(corpus.classes)
            counts = np.array(manifest["transition_counts"])
            assert counts.shape == (size, size)
            assert counts.sum() == len(corpus)
            assert counts.sum() - np.trace(counts) == (noisy.labels != noisy.truth).sum()
            if recipe == "symmetric":
                np.testing.assert_allclose(chances.max(axis=1), 1 / (size - 1))
            if recipe == "disagreement" and kind == "merged":
                dissent = votes_for(whole, corpus)
                dissent[np.arange(len(corpus)), corpus.labels] = 0
                np.testing.assert_allclose(chances * dissent.sum(axis=1, keepdims=True), dissent)


def test_symmetric_noise_on_four_of_seven_classes_puts_no_label_on_the_other_three() -> None:
    seven = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
    four = ("anger", "happiness", "neutral", "sadness")
    corpus = choose_classes(corpus_of(four * 60, seven), "all")
    assert corpus.classes == four
    noisy = corrupt(corpus, "symmetric", 0.5, 0)
    counts = np.array(noisy.manifest["transition_counts"])
    assert counts.shape == (4, 4)
    assert counts.sum() - np.trace(counts) == 120
    assert (counts[~np.eye(4, dtype=bool)] > 0).all()


def test_confusions_of_merged_classes_are_those_of_their_emotions() -> None:
    # 3 anger, 1 sadness, 2 happiness, 2 neutral; joy and excitement are not both classes of CREMA-D.
    labels = ["anger"] * 3 + ["sadness"] + ["joy"] * 2 + ["neutral"] * 2
    corpus = choose_classes(corpus_of(labels, dict.fromkeys(labels)), "bad=anger+sadness,good=joy,neutral")
    share = {name: dict(zip(EMOTIONS, row, strict=True)) for name, row in zip(EMOTIONS, VOTE_SHARES, strict=True)}
    bad = {name: 0.75 * share["anger"][name] + 0.25 * share["sadness"][name] for name in EMOTIONS}
    whole = bad["anger"] + bad["sadness"] + bad["happiness"] + bad["neutral"]
    chances = recipe_named("human").chances(corpus)
    first = corpus.table["label"].tolist().index("bad")
    assert chances[first] == pytest.approx([0, bad["happiness"] / whole, bad["neutral"] / whole])
    good = corpus.table["label"].tolist().index("good")
    joy = share["happiness"]
    to_bad, stay, away = joy["anger"] + joy["sadness"], joy["happiness"], joy["neutral"]
    assert chances[good] == pytest.approx(np.array([to_bad, 0, away]) / (to_bad + stay + away))
    assert corrupt_level(corpus, "noisy-A", 0).manifest["recipe"] == "human"


def test_a_merged_class_with_more_than_cremas_emotions_is_the_emotion_of_its_name() -> None:
    labels = ["ang", "hap", "exc", "sad"] * 5
    corpus = corpus_of(labels, ("ang", "hap", "exc", "sad"))
    named = choose_classes(corpus, "ang,happiness=hap+exc,sad")
    plain = corpus_of(["ang", "hap", "hap", "sad"] * 5, ("ang", "hap", "sad"))
    np.testing.assert_allclose(recipe_named("human").chances(named), recipe_named("human").chances(plain))
    with pytest.raises(UserError, match=r"not 'up'\. .*--classes ang,sad"):
        recipe_named("human").chances(choose_classes(corpus, "ang,up=hap+exc,sad"))


def test_a_matrix_for_other_classes_names_those_of_the_corpus(tmp_path: Path) -> None:
    corpus = choose_classes(corpus_of(["a", "b", "c"] * 4, ("a", "b", "c")), "ab=a+b,c")
    with pytest.raises(DataErrors, match=r"(?s)ab: no row for this class.*a: is not a class.*has ab, c"):
        corrupt(corpus, matrix_file(tmp_path, ("a", "b", "c")), 0.25, 0)
