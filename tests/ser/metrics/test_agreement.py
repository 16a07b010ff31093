import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ser.metrics.agreement import (
    OTHER,
    STRATA,
    anonymous_annotations,
    fleiss_kappa,
    human_ceiling,
    krippendorff_alpha,
    soft_labels,
    strata,
    vote_entropy,
)
from ser.utils.errors import DataErrors, UserError

CLASSES = ("ang", "hap", "sad")
battery = settings(max_examples=80, deadline=None)

# The worked example at https://en.wikipedia.org/wiki/Fleiss'_kappa: 10 subjects, 14 raters.
FLEISS_EXAMPLE = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
# Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011, section C: 4 observers, 12 units, gaps.
KRIPPENDORFF_EXAMPLE = [
    [3, 0, 0, 0, 0],
    [0, 3, 1, 0, 0],
    [0, 0, 4, 0, 0],
    [0, 0, 4, 0, 0],
    [0, 4, 0, 0, 0],
    [1, 1, 1, 1, 0],
    [0, 0, 0, 4, 0],
    [3, 1, 0, 0, 0],
    [0, 4, 0, 0, 0],
    [0, 0, 0, 0, 3],
    [2, 0, 0, 0, 0],
    [0, 0, 1, 0, 0],
]

votes_of = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6), elements=st.integers(0, 4))


@pytest.mark.parametrize(
    ("votes", "other", "stratum"),
    [
        ([3, 0, 0], 0, "unanimous"),
        ([1, 0, 0], 0, "unanimous"),
        ([3, 0, 0], 1, "majority"),
        ([2, 1, 0], 0, "majority"),
        ([2, 1, 1], 0, "plurality"),
        ([2, 1, 0], 1, "plurality"),
        ([2, 2, 0], 0, "none"),
        ([2, 1, 0], 2, "none"),
        ([1, 1, 1], 0, "none"),
        ([0, 0, 0], 0, "none"),
        ([1, 0, 0], 2, "majority"),
        ([0, 0, 0], 2, "unanimous"),
    ],
)
def test_strata_follow_the_share_of_the_largest_count(votes, other, stratum):
    assert strata([votes], [other]).tolist() == [stratum]
    if not other:
        assert strata([votes]).tolist() == [stratum]


@battery
@given(votes_of)
def test_strata_agree_with_a_sorted_list_of_votes(votes):
    for counts, stratum in zip(votes.tolist(), strata(votes), strict=True):
        ranked = [*sorted(counts, reverse=True), 0]
        expected = (
            "none"
            if ranked[0] == ranked[1]
            else "unanimous"
            if ranked[1] == 0
            else "majority"
            if ranked[0] > sum(ranked[1:])
            else "plurality"
        )
        assert stratum == expected
        assert stratum in STRATA


def test_soft_labels_are_shares_of_the_votes():
    assert soft_labels([[3, 1, 0], [0, 0, 2]]).tolist() == [[0.75, 0.25, 0], [0, 0, 1]]


@pytest.mark.parametrize("function", [soft_labels, vote_entropy])
def test_rows_without_votes_are_counted_in_the_error(function):
    with pytest.raises(ValueError, match="2 of 3 utterances have no votes"):
        function([[0, 0], [1, 0], [0, 0]])


def test_vote_entropy_is_zero_for_one_class_and_one_for_all_alike():
    assert vote_entropy([[4, 0, 0, 0], [2, 2, 2, 2], [3, 3, 0, 0]]) == pytest.approx([0, 1, 0.5])
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert vote_entropy([[3, 1]]) == pytest.approx([expected])
    with pytest.raises(ValueError, match="at least two classes"):
        vote_entropy([[3]])


@pytest.mark.parametrize("votes", [[[1, -1]], [[0.5, 0.5]], [1, 2], [[True, False]], [[], []]])
@pytest.mark.parametrize("function", [strata, soft_labels, vote_entropy, fleiss_kappa, krippendorff_alpha])
def test_what_are_no_counts_is_refused(function, votes):
    with pytest.raises(ValueError, match="non-negative integers"):
        function(votes)


def test_fleiss_kappa_gives_the_worked_example():
    assert fleiss_kappa(FLEISS_EXAMPLE) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_gives_gwets_figure_for_unequal_numbers_of_votes():
    # As the documentation of Gwet's package irrCAC has it: pa .81818, pe .23872.
    assert fleiss_kappa(KRIPPENDORFF_EXAMPLE) == pytest.approx(0.76117, abs=5e-6)


def test_krippendorff_alpha_gives_krippendorffs_own_example():
    assert krippendorff_alpha(KRIPPENDORFF_EXAMPLE) == pytest.approx(0.743, abs=5e-4)


def test_coefficients_by_hand():
    # Two items agreed on, one split: P = 2/3, shares 1/2 and 1/2, so Pₑ = 1/2.
    assert fleiss_kappa([[2, 0], [0, 2], [1, 1]]) == pytest.approx(1 / 3)
    # Observed disagreement 2/6, expected 2·3·3/(6·5).
    assert krippendorff_alpha([[2, 0], [0, 2], [1, 1]]) == pytest.approx(1 - (2 / 6) / (18 / 30))
    assert fleiss_kappa([[2, 0], [0, 3]]) == pytest.approx(1)
    assert krippendorff_alpha([[2, 0], [0, 3]]) == pytest.approx(1)
    assert fleiss_kappa([[1, 1]]) == pytest.approx(-1)
    assert krippendorff_alpha([[1, 1]]) == pytest.approx(0)


@pytest.mark.parametrize(
    "counts", [[[3, 0], [2, 0]], [[3], [2]], [[1, 0], [0, 1]], [[0, 0]], np.zeros((0, 3), dtype=int)]
)
@pytest.mark.parametrize("coefficient", [fleiss_kappa, krippendorff_alpha])
def test_coefficients_are_nan_without_variation_or_pairs(coefficient, counts, recwarn):
    assert math.isnan(coefficient(counts))
    assert not len(recwarn)


def test_alpha_leaves_single_votes_out_and_kappa_counts_them_for_chance_alone():
    pairs, single = [[2, 0], [0, 2], [1, 1]], [[1, 0]]
    assert krippendorff_alpha(pairs + single) == krippendorff_alpha(pairs)
    chance = (5 / 8) ** 2 + (3 / 8) ** 2
    assert fleiss_kappa(pairs + single) == pytest.approx((2 / 3 - chance) / (1 - chance))
    assert math.isnan(krippendorff_alpha([[2, 0], [0, 1]]))


@battery
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 30))
def test_alpha_follows_from_kappa_where_every_item_has_the_same_number_of_votes(seed, raters, items):
    counts = np.random.default_rng(seed).multinomial(raters, [0.5, 0.3, 0.2], size=items)
    kappa, total = fleiss_kappa(counts), counts.sum()
    assume(not math.isnan(kappa))
    assert 1 - krippendorff_alpha(counts) == pytest.approx((1 - kappa) * (total - 1) / total)


@battery
@given(votes_of, st.randoms(use_true_random=False))
def test_coefficients_do_not_depend_on_the_order_of_items_or_categories(votes, random):
    rows, columns = (random.sample(range(size), size) for size in votes.shape)
    shuffled = votes[rows][:, columns]
    for coefficient in (fleiss_kappa, krippendorff_alpha):
        assert coefficient(shuffled) == pytest.approx(coefficient(votes), nan_ok=True)
        assert not coefficient(votes) > 1 + 1e-12


def frame(rows):
    return pd.DataFrame(rows, columns=["utterance_id", "annotator", "label"], dtype=object)


def brute_force(rows, classes):
    """Pairs one by one, as the definition reads → recall, credit of each pair by reference and by annotator, skips."""
    answers = {}
    for number, (utterance, annotator, label) in enumerate(rows):
        who = ("unnamed", number) if annotator is None else ("named", annotator)
        answers.setdefault(utterance, {}).setdefault(who, set()).add(label)
    pairs, skipped = [], 0
    for by_annotator in answers.values():
        for who, own in by_annotator.items():
            rest = Counter(c for other, named in by_annotator.items() if other != who for c in named if c in classes)
            best = [c for c in rest if rest[c] == max(rest.values())]
            if len(best) == 1:
                pairs.append((who, best[0], (best[0] in own) / len(own)))
            else:
                skipped += 1
    return pairs, skipped


def recalls(pairs, classes):
    by_class = {c: [credit for _, reference, credit in pairs if reference == c] for c in classes}
    return {c: sum(credits) / len(credits) if credits else math.nan for c, credits in by_class.items()}


def uar(pairs, classes):
    present = [value for value in recalls(pairs, classes).values() if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


rows_of = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3", "u4"]),
        st.sampled_from(["e1", "e2", "e3", "e4", None]),
        st.sampled_from([*CLASSES, "oth", "sur"]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(rows_of)
def test_the_human_ceiling_is_what_the_definition_says_pair_by_pair(rows):
    ceiling = human_ceiling(frame(rows), CLASSES)
    pairs, skipped = brute_force(rows, CLASSES)
    assert (ceiling.pairs, ceiling.skipped) == (len(pairs), skipped)
    assert ceiling.recall == pytest.approx(recalls(pairs, CLASSES), nan_ok=True)
    assert ceiling.uar == pytest.approx(uar(pairs, CLASSES), nan_ok=True)
    assert ceiling.accuracy == pytest.approx(
        sum(credit for *_, credit in pairs) / len(pairs) if pairs else math.nan, nan_ok=True
    )
    names = {annotator for _, annotator, _ in rows if annotator is not None}
    assert ceiling.annotators == len(names)
    assert set(ceiling.by_annotator) == names
    for name, score in ceiling.by_annotator.items():
        own = [pair for pair in pairs if pair[0] == ("named", name)]
        assert score.pairs == len(own)
        assert score.uar == pytest.approx(uar(own, CLASSES), nan_ok=True)


@battery
@given(rows_of, st.randoms(use_true_random=False))
def test_the_human_ceiling_does_not_depend_on_row_order_or_index(rows, random):
    shuffled = frame(random.sample(rows, len(rows)))
    shuffled.index = range(7, 7 + len(rows))
    one, other = human_ceiling(frame(rows), CLASSES), human_ceiling(shuffled, CLASSES)
    assert repr(one) == repr(other)


def votes_for(utterance, labels):
    return [(utterance, f"e{i}", label) for i, label in enumerate(labels)]


def test_the_human_ceiling_by_hand():
    # Three annotators agree: three right answers. Two against one: the dissenter is wrong, the other two face a tie.
    rows = [*votes_for("u1", ["ang", "ang", "ang"]), *votes_for("u2", ["ang", "ang", "hap"])]
    ceiling = human_ceiling(frame(rows), CLASSES)
    assert (ceiling.uar, ceiling.accuracy, ceiling.pairs, ceiling.skipped) == (0.75, 0.75, 4, 2)
    assert ceiling.recall == pytest.approx({"ang": 0.75, "hap": math.nan, "sad": math.nan}, nan_ok=True)
    # Influences of the two utterances: (3 − .75·3)/4 and (0 − .75)/4.
    assert ceiling.standard_error == pytest.approx(math.sqrt(2 * 2 * 0.1875**2))
    assert {name: (score.uar, score.pairs) for name, score in ceiling.by_annotator.items()} == {
        "e0": (1.0, 1),
        "e1": (1.0, 1),
        "e2": (0.5, 2),
    }


@pytest.mark.parametrize(
    ("named", "credit"),
    [
        (["ang"], 1),
        (["ang", "hap"], 1 / 2),
        (["ang", "hap", "oth"], 1 / 3),
        (["ang", "oth", "sur"], 1 / 3),
        (["ang", "ang"], 1),
        (["hap", "sad"], 0),
        (["oth"], 0),
    ],
)
def test_an_annotator_who_names_several_categories_gets_a_part_for_the_right_one(named, credit):
    rows = [*votes_for("u1", ["ang", "ang", "ang"]), *(("u1", "left out", label) for label in named)]
    score = human_ceiling(frame(rows), CLASSES).by_annotator["left out"]
    assert (score.uar, score.pairs) == (pytest.approx(credit), 1)


def test_votes_outside_the_class_set_never_make_a_reference():
    ceiling = human_ceiling(frame(votes_for("u1", ["oth", "oth", "oth", "hap"])), CLASSES)
    # The three who said oth face hap alone; the one who said hap faces nothing.
    assert (ceiling.recall["hap"], ceiling.pairs, ceiling.skipped) == (0.0, 3, 1)


def test_an_annotator_without_a_reference_stands_there_with_no_pairs():
    ceiling = human_ceiling(frame([("u1", "e1", "ang")]), CLASSES)
    assert (ceiling.pairs, ceiling.skipped, ceiling.annotators) == (0, 1, 1)
    assert ceiling.by_annotator["e1"].pairs == 0
    numbers = (ceiling.uar, ceiling.accuracy, ceiling.standard_error, ceiling.by_annotator["e1"].uar)
    assert all(map(math.isnan, numbers))


@battery
@given(votes_of, st.randoms(use_true_random=False))
def test_anonymous_votes_score_as_named_ones_do(votes, random):
    votes = votes[:, :4]
    inside, other = votes[:, :-1], votes[:, -1]
    assume(inside.shape[1])
    classes, ids = CLASSES[: inside.shape[1]], [f"u{i}" for i in range(len(votes))]
    rows = []
    for id_, counts in zip(ids, votes.tolist(), strict=True):
        labels = [name for name, count in zip([*classes, "oth"], counts, strict=True) for _ in range(count)]
        names = random.sample(range(100), len(labels))
        rows += [(id_, f"e{name}", label) for name, label in zip(names, labels, strict=True)]
    named = human_ceiling(frame(rows), classes)
    anonymous = human_ceiling(anonymous_annotations(ids, inside, classes, other), classes)
    pooled = ("uar", "standard_error", "accuracy", "recall", "pairs", "skipped")
    for name in pooled:
        assert getattr(anonymous, name) == pytest.approx(getattr(named, name), nan_ok=True)
    assert (anonymous.annotators, anonymous.by_annotator) == (0, {})


def test_anonymous_annotations_have_a_row_for_each_vote():
    annotations = anonymous_annotations(["u1", "u2"], [[2, 0], [0, 1]], ("ang", "hap"), other=[1, 0])
    assert annotations["utterance_id"].tolist() == ["u1", "u1", "u1", "u2"]
    assert annotations["label"].tolist() == ["ang", "ang", OTHER, "hap"]
    assert annotations["annotator"].isna().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["u1"], [[1, 0], [0, 1]], ("a", "b")), "1 utterances and 2 classes"),
        ((["u1"], [[1, 0]], ("a",)), "1 utterances and 1 classes"),
        ((["u1"], [[1, 0]], ("a", OTHER), [1]), "outside the class set"),
    ],
)
def test_anonymous_annotations_refuse_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        anonymous_annotations(*arguments)


def random_votes(size=4000, raters=9, width=4):
    votes = np.random.default_rng(1).multinomial(raters, [1 / width] * width, size=size)
    return [f"u{i:04}" for i in range(size)], votes, tuple("abcd")


def test_annotators_who_answer_at_random_score_chance_unless_ties_are_left_out():
    ids, votes, classes = random_votes()
    everything = human_ceiling(anonymous_annotations(ids, votes, classes), classes)
    assert abs(everything.uar - 0.25) < 3 * everything.standard_error
    untied = strata(votes) != "none"
    selected = human_ceiling(
        anonymous_annotations([id_ for id_, kept in zip(ids, untied, strict=True) if kept], votes[untied], classes),
        classes,
    )
    assert selected.uar > 0.25 + 5 * selected.standard_error


def test_the_standard_error_agrees_with_the_jackknife_over_utterances():
    ids, votes, classes = random_votes(size=120)
    votes = votes + 3 * np.eye(4, dtype=int)[np.arange(120) % 4]
    annotations = anonymous_annotations(ids, votes, classes)
    without = [human_ceiling(annotations[annotations["utterance_id"] != id_], classes).uar for id_ in ids]
    jackknife = math.sqrt((len(ids) - 1) * np.var(without))
    assert human_ceiling(annotations, classes).standard_error == pytest.approx(jackknife, rel=0.05)


def test_a_missing_column_and_missing_values_are_told():
    with pytest.raises(UserError, match=r"no column 'annotator'; .* have utterance_id, label"):
        human_ceiling(pd.DataFrame({"utterance_id": ["u1"], "label": ["ang"]}), CLASSES)
    with pytest.raises(DataErrors) as caught:
        human_ceiling(frame([("u1", "e1", None), (None, "e2", "ang"), ("u1", None, "ang")]), CLASSES)
    assert caught.value.errors == [("row 2", "utterance_id is missing"), ("row 1", "label is missing")]
