"""Searches are shown with their own confirmations, and spaces of one name and different content are distinguished."""

from types import SimpleNamespace

import pytest

from study.schema import CONFIRM, PARENT, PILOT, SEARCH, TRIAL, Tag
from study.tracking.matching import ANY_ARITHMETIC, confirm_protocol, match, several_contents, space_names


def run(run_id, start, stage, study, protocol, corpus="one", source="", **tags):
    """Return a run as MLflow's client has it; ``start`` in ms."""
    known = {
        Tag.KIND: TRIAL, Tag.STAGE: stage, Tag.STUDY: study, Tag.PROTOCOL: protocol, Tag.CORPUS_DIGEST: corpus,
        Tag.SPACE: "elr", Tag.NOISE: "clean", Tag.NOISE_RATE: "0", Tag.TRIAL: "001", Tag.SELECT_ON: "noisy",
        Tag.SEARCHED: "", Tag.SEED: "0", Tag.FOLD: "1",
    }  # fmt: skip
    if stage == CONFIRM:
        known |= {Tag.CANDIDATE: "search-1" if source else "default", Tag.SOURCE: source}
    known |= {name.replace("_", "."): value for name, value in tags.items()}
    data = SimpleNamespace(tags=known, params={})
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id, start_time=start), data=data)


def search(run_id, start, study="s", protocol="P", corpus="one", **tags):
    return run(run_id, start, SEARCH, study, protocol, corpus, **tags)


def confirm(run_id, start, study="c", protocol="P", corpus="one", source="s1", **tags):
    return run(run_id, start, CONFIRM, study, confirm_protocol(protocol), corpus, source, **tags)


def ids(runs):
    return [run.info.run_id for run in runs]


def shown(runs, study=None, arithmetic=None):
    """Return the ids of what is shown of the search, of the confirmation, and of what is left out."""
    found = match(runs, study, arithmetic)
    return ids(found.search), ids(found.confirmed), ids(found.others)


def test_a_search_is_shown_with_its_confirmation():
    assert shown([search("s1", 1), search("s2", 2), confirm("c1", 3)]) == (["s1", "s2"], ["c1"], [])


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        # The newest search is of another corpus than the newest confirmation: the newer one, and what matches it.
        (4, (["t1"], ["d1"], ["s1", "c1"])),
        (0, (["s1"], ["c1"], ["t1", "d1"])),
    ],
)
def test_a_search_of_one_corpus_is_never_shown_with_the_confirmation_of_another(newest, expected):
    runs = [
        search("s1", 1), confirm("c1", 3), search("t1", newest, "t", "Q", "two"),
        confirm("d1", -1, "d", "Q", "two", "t1"),
    ]  # fmt: skip
    assert shown(runs) == expected


def test_a_search_without_a_confirmation_of_its_own_is_shown_alone():
    assert shown([search("s1", 1), confirm("c1", 2), search("t1", 3, "t", "Q", "two")]) == (["t1"], [], ["s1", "c1"])


def test_another_protocol_on_the_same_corpus_is_left_out_too():
    runs = [search("s1", 1), confirm("c1", 2), search("t1", 3, "t", "Q")]
    assert shown(runs) == (["t1"], [], ["s1", "c1"])
    assert shown([*runs, confirm("c2", 4)]) == (["s1"], ["c1", "c2"], ["t1"])


def test_a_study_or_a_confirmation_that_is_named_is_shown_with_what_matches_it():
    runs = [search("s1", 1), confirm("c1", 2), search("t1", 3, "t", "Q", "two")]
    assert shown(runs, "s")[:2] == (["s1"], ["c1"])
    assert shown(runs, "c")[:2] == (["s1"], ["c1"])
    assert shown(runs, "t")[:2] == (["t1"], [])
    assert shown(runs, "none")[:2] == ([], [])


def test_of_two_searches_of_a_protocol_each_is_shown_with_what_was_found_in_it():
    runs = [search("s1", 1), search("t1", 2, "t"), confirm("c1", 3), confirm("d1", 4, "d", source="t1")]
    assert shown(runs) == (["s1", "t1"], ["c1", "d1"], [])
    assert shown(runs, "t")[:2] == (["t1"], ["d1"])


def test_a_confirmation_of_published_defaults_is_shown_with_the_search_on_its_data_only():
    defaults = confirm("c1", 5, protocol="defaults", source="")
    same, other = search("s1", 1), search("t1", 2, "t", "Q", "two")
    assert shown([same, other, defaults]) == (["s1"], ["c1"], ["t1"])
    assert match([same, other, defaults]).by_data
    assert shown([other, defaults]) == ([], ["c1"], ["t1"])
    # The search has a confirmation of its own, which is not the newest one.
    assert shown([same, confirm("d1", 3, "d"), defaults]) == (["s1"], ["c1"], ["d1"])
    assert shown([same, confirm("d1", 3, "d"), defaults], "s")[:2] == (["s1"], ["d1"])


def test_a_confirmation_of_an_earlier_version_is_found_by_its_sources():
    assert shown([search("s1", 1), run("c1", 2, CONFIRM, "c", "another digest", source="s1")])[:2] == (["s1"], ["c1"])


def test_runs_of_others_pilots_and_copies_without_tags_are_no_trials():
    stranger = SimpleNamespace(
        info=SimpleNamespace(run_id="x", start_time=9), data=SimpleNamespace(tags={"mlflow.user": "somebody"})
    )
    half = search("h", 8)
    del half.data.tags[Tag.PROTOCOL]
    unknown = search("u", 8)
    unknown.data.tags[Tag.SELECT_ON] = "luck"
    found = match([stranger, half, unknown, run("p", 7, PILOT, "p", "P"), search("s1", 1)])
    assert (ids(found.search), ids(found.confirmed), ids(found.others), found.foreign) == (["s1"], [], [], 2)


# Arithmetic

BFLOAT16, FLOAT32, ON_CPU = "cuda bfloat16", "cuda float32", "cpu bfloat16"


def chosen(precision, *runs):
    """Let runs have a configuration that chooses the precision."""
    for one in runs:
        one.data.params["training.precision"] = precision
    return runs


def test_trials_of_another_arithmetic_than_the_newest_are_left_out_and_named_as_such():
    runs = [
        search("s1", 1, arithmetic=ON_CPU), search("s2", 2, arithmetic=BFLOAT16), search("s3", 3, arithmetic=BFLOAT16),
        search("t1", 9, "t", "Q", arithmetic=ON_CPU),
    ]  # fmt: skip
    found = match(runs, "s")
    assert (ids(found.search), ids(found.others), ids(found.otherwise)) == (["s2", "s3"], ["s1", "t1"], ["s1"])
    assert shown(runs[:3], arithmetic=ON_CPU) == (["s1"], [], ["s2", "s3"])
    assert ids(match(runs, "s", ON_CPU).otherwise) == ["s2", "s3"]
    assert shown(runs[:3], arithmetic=ANY_ARITHMETIC) == (["s1", "s2", "s3"], [], [])
    assert shown(runs[:3], arithmetic=FLOAT32) == ([], [], ["s1", "s2", "s3"])


def test_the_newest_trial_of_an_arithmetic_decides_on_the_protocol_too():
    runs = [search("s1", 1, arithmetic=ON_CPU), search("t1", 2, "t", "Q", arithmetic=BFLOAT16)]
    assert shown(runs, arithmetic=ON_CPU) == (["s1"], [], ["t1"])


@pytest.mark.parametrize("newest", [0, 5])
def test_trials_without_an_arithmetic_match_any(newest):
    runs = [search("s1", newest), search("s2", 1, arithmetic=ON_CPU)]
    assert shown(runs) == (["s1", "s2"], [], [])
    assert shown([search("s1", 1), search("s2", 2)])[0] == ["s1", "s2"]
    assert shown([*runs, search("s3", 2, arithmetic=BFLOAT16)], arithmetic=ON_CPU) == (["s1", "s2"], [], ["s3"])
    # Nor do they decide between others.
    assert shown([*runs, search("s3", 2, arithmetic=BFLOAT16)]) == (["s1", "s3"], [], ["s2"])


def test_a_search_on_gpus_belongs_to_its_confirmation_on_cpus():
    runs = [search("s1", 1, arithmetic=BFLOAT16), confirm("c1", 2, arithmetic=ON_CPU)]
    assert shown(runs) == (["s1"], ["c1"], [])
    assert shown(runs, "s")[:2] == shown(runs, "c")[:2] == (["s1"], ["c1"])
    mixed = [*runs, confirm("c2", 3, arithmetic=BFLOAT16)]
    assert shown(mixed) == (["s1"], ["c2"], ["c1"])


def test_a_precision_that_configurations_choose_is_one_of_their_parameters_and_the_device_is_not():
    runs = chosen("bfloat16", search("s1", 1, arithmetic=BFLOAT16)) + chosen(
        "float32", search("s2", 2, arithmetic=FLOAT32)
    )
    assert shown(runs)[0] == ["s1", "s2"]
    assert shown([*runs, search("s3", 3, arithmetic=BFLOAT16)])[0] == ["s1", "s2", "s3"]
    assert shown([*chosen("bfloat16", search("s0", 0, arithmetic=ON_CPU)), *runs])[0] == ["s1", "s2"]


def test_heads_on_embeddings_are_trained_on_cpus_and_shown_with_networks_on_gpus():
    runs = [
        search("s1", 1, arithmetic=ON_CPU),
        search("s2", 2, arithmetic=BFLOAT16),
        search("s3", 3, arithmetic=ON_CPU),
    ]
    runs[0].data.params |= {"model.name": "hf:some/encoder", "model.freeze": "base"}
    runs[2].data.params |= {"model.name": "embedding_head"}
    assert shown(runs[:2])[0] == ["s1", "s2"]
    assert shown(runs)[0] == ["s1", "s2", "s3"]
    assert shown([*runs, search("s4", 4, arithmetic=ON_CPU)]) == (["s1", "s3", "s4"], [], ["s2"])
    tuned = search("s5", 5, arithmetic=ON_CPU)
    tuned.data.params |= {"model.name": "hf:some/encoder", "model.freeze": "none"}
    assert shown([*runs, tuned]) == (["s1", "s3", "s5"], [], ["s2"])


def test_a_trial_that_two_devices_have_computed_matches_neither():
    runs = [search("s1", 1, arithmetic=f"{BFLOAT16}, then {ON_CPU}"), search("s2", 2, arithmetic=ON_CPU)]
    assert shown(runs) == (["s2"], [], ["s1"])
    assert shown(chosen("bfloat16", *runs))[0] == ["s2"]


# Spaces


def names(*runs):
    return list(space_names(runs).values())


def test_spaces_of_one_content_keep_their_name():
    assert names(search("a", 1, space_digest="aaaaaaaa"), search("b", 2, "t", space_digest="aaaaaaaa")) == ["elr"] * 2
    assert names(search("a", 1), search("b", 2, "t")) == ["elr"] * 2  # of an earlier version


def test_spaces_of_one_name_and_different_content_are_told_apart():
    runs = [search("a", 1, space_digest="aaaaaaaa"), search("b", 2, "t", space_digest="bbbbbbbb"), search("c", 3, "u")]
    assert names(*runs) == ["elr@aaaaaa", "elr@bbbbbb", "elr@unknown"]
    assert several_contents(runs, space_names(runs)) == {
        "elr": {"elr@aaaaaa": ["s"], "elr@bbbbbb": ["t"], "elr@unknown": ["u"]}
    }


def test_digests_that_begin_alike_are_shown_as_far_as_they_differ():
    runs = [search("a", 1, space_digest="aaaaaaa1"), search("b", 2, "t", space_digest="aaaaaaa2")]
    assert names(*runs) == ["elr@aaaaaaa1", "elr@aaaaaaa2"]


def test_a_study_that_was_begun_before_contents_were_recorded_and_resumed_after_it_is_one():
    assert names(search("a", 1), search("b", 2, space_digest="aaaaaaaa")) == ["elr"] * 2


def test_a_confirmed_space_is_that_of_the_search_it_comes_from():
    runs = [
        search("a", 1, space_digest="aaaaaaaa"), search("b", 2, "t", space_digest="bbbbbbbb"),
        confirm("c", 3, source="a"), confirm("d", 4, source=""), confirm("e", 5, "other", source="b"),
    ]  # fmt: skip
    assert names(*runs) == ["elr@aaaaaa", "elr@bbbbbb", "elr@aaaaaa", "elr@aaaaaa", "elr@bbbbbb"]


def test_parents_have_the_name_of_their_trials_and_do_not_split_them():
    parent = search("p", 0, kind=PARENT, space_digest="aaaaaaaa")
    assert names(parent, search("a", 1), search("b", 2, "t", space_digest="bbbbbbbb")) == [
        "elr@aaaaaa", "elr@aaaaaa", "elr@bbbbbb",
    ]  # fmt: skip
    assert names(parent, search("a", 1)) == ["elr"] * 2
