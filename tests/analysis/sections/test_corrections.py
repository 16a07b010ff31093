"""Corrected and suspicious labels: numbers known by hand, what is missing, and the command line."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from analysis.common.corrected_labels import by_group, corrected_pairs, correction_scores, first_changes
from analysis.common.style import method_style
from analysis.sections.corrections.section import Options, section
from analysis.sections.corrections.suspicious import compare_rankings, precision_at, rank_labels
from analysis.sections.corrections.wording import ranking_text, scores_text
from study.schema import FINISHED, SEARCH, TRIAL, UTTERANCES
from study.tracking.opening import open_client
from tests.helpers.made_records import EPOCHS, make_store

CLASSES = ("A", "B", "C")


def table_of(rows):
    """Return a table; a row is (subset, speaker, gender, noisy, true, corrected, kept, trust, first change, p)."""
    names = ["subset", "speaker", "gender", "noisy_label", "label", "corrected_label", "kept", "trust"]
    names += ["first_epoch_changed"]
    table = pd.DataFrame([row[:9] for row in rows], columns=names)
    table.insert(0, "utterance_id", [f"u{number}" for number in range(len(rows))])
    text = ["utterance_id", *names[:6]]
    types = {**dict.fromkeys(text, "string"), "kept": "float32", "trust": "float32", "first_epoch_changed": "Int64"}
    probabilities = np.array([row[9] for row in rows], dtype=np.float32)
    return table.astype(types).join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES]))


T, V = "train", "validation"
SIX = [
    (T, "s1", "female", "A", "B", "B", 0.2, 0.8, 3, (0.1, 0.8, 0.1)),  # corrected to the true label
    (T, "s1", "female", "A", "B", "B", 0.3, 0.7, 1, (0.2, 0.7, 0.1)),  # corrected to the true label
    (T, "s2", "male", "A", "A", "B", 0.4, 0.6, 3, (0.3, 0.6, 0.1)),  # corrected to a wrong label
    (T, "s2", "male", "C", "B", "C", 0.7, 0.3, 2, (0.1, 0.4, 0.5)),  # mislabelled, and changed back
    (T, "s2", "male", "C", None, "A", 0.1, 0.9, 4, (0.9, 0.1, 0.0)),  # corrected, true label unknown
    (T, "s1", "female", "B", "B", "B", 0.9, 0.1, None, (0.0, 0.9, 0.1)),
    (V, "s3", "male", "A", "A", None, None, None, None, (0.6, 0.3, 0.1)),
    (V, "s3", "male", "B", "A", None, None, None, None, (0.5, 0.4, 0.1)),
    (V, "s3", "male", "C", "C", None, None, None, None, (0.2, 0.5, 0.3)),
]


@pytest.fixture
def six():
    return table_of(SIX)


# Corrected labels


def test_the_corrected_pairs_of_six_utterances_are_known(six):
    pairs = corrected_pairs(six)
    assert pairs.drop(columns="share_right").to_numpy().tolist() == [
        ["A", "B", 3, 3, 2, 1],
        ["C", "A", 1, 0, 0, 0],
    ]
    np.testing.assert_allclose(pairs["share_right"], [2 / 3, np.nan])


def test_the_corrected_pairs_of_a_gender_and_a_speaker_are_known(six):
    pairs = by_group(six, corrected_pairs)[["by", "group", "noisy_label", "corrected_label", "flips", "right"]]
    assert pairs.to_numpy().tolist() == [
        ["all", "all", "A", "B", 3, 2],
        ["all", "all", "C", "A", 1, 0],
        ["gender", "female", "A", "B", 2, 2],
        ["gender", "male", "A", "B", 1, 0],
        ["gender", "male", "C", "A", 1, 0],
        ["speaker", "s1", "A", "B", 2, 2],
        ["speaker", "s2", "A", "B", 1, 0],
        ["speaker", "s2", "C", "A", 1, 0],
    ]


def test_precision_and_recall_of_the_correction_are_known(six):
    scores = by_group(six, correction_scores).set_index("group")
    columns = ["utterances", "judged", "mislabelled", "flipped", "flipped_judged", "right"]
    assert scores.loc["all", columns].tolist() == [6, 5, 3, 4, 3, 2]
    assert scores.loc["female", columns].tolist() == [3, 3, 2, 2, 2, 2]
    assert scores.loc["all", ["precision", "recall"]].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert scores.loc["male", ["precision", "recall"]].tolist() == [0, 0]
    assert scores.loc["s3", columns].tolist() == [0] * 6  # validation is not corrected
    assert np.isnan(scores.loc["s3", "precision"])


def test_first_changes_are_counted_by_epoch(six):
    assert first_changes(six).to_numpy().tolist() == [[1, 1, 1, 1], [2, 1, 0, 0], [3, 2, 2, 1], [4, 1, 1, 0]]


def test_equally_frequent_pairs_stand_in_the_order_of_their_names():
    rows = [(T, "s", "male", *labels, 0.1, 0.9, 1, (0, 0.5, 0.5)) for labels in (("C", "A", "A"), ("A", "A", "C"))]
    assert corrected_pairs(table_of(rows))["noisy_label"].tolist() == ["A", "C"]


def test_a_loss_that_corrects_nothing_has_empty_tables_of_the_same_columns(six):
    still = six.assign(corrected_label=six["noisy_label"], first_epoch_changed=pd.array([None] * 9, dtype="Int64"))
    for compute in (corrected_pairs, first_changes):
        assert len(compute(still)) == 0
        assert list(compute(still)) == list(compute(six))
    assert correction_scores(still)["recall"].tolist() == [0]
    assert correction_scores(still)["precision"].isna().all()


def test_without_any_gender_there_are_no_rows_by_gender(six):
    nobody = six.assign(gender=pd.array(["unknown"] * 9, dtype="string"))
    assert set(by_group(nobody, correction_scores)["by"]) == {"all", "speaker"}


def test_what_was_never_drawn_is_in_no_count(six):
    missing = six.copy()
    missing.loc[0, ["corrected_label", "kept", "trust", "first_epoch_changed", "p_A", "p_B", "p_C"]] = pd.NA
    assert correction_scores(missing)["utterances"].tolist() == [5]
    assert corrected_pairs(missing)["flips"].tolist() == [2, 1]
    ranked = rank_labels(missing)
    assert ranked[ranked["subset"] == T]["utterance_id"].iloc[-1] == "u0"
    assert ranked.set_index("utterance_id").loc["u0", "rank_loss":].isna().all()


# Suspicious labels


def test_the_ranks_of_six_utterances_are_known(six):
    ranked = rank_labels(six).set_index("utterance_id")
    # kept .2 .3 .4 .7 .1 .9; p of the label .1 .2 .3 .5 .0 .9; margins −.7 −.5 −.3 .1 −.9 .8
    assert ranked["rank_loss"].dropna().to_dict() == {"u4": 1, "u0": 2, "u1": 3, "u2": 4, "u3": 5, "u5": 6}
    assert list(ranked.index) == ["u4", "u0", "u1", "u2", "u3", "u5", "u8", "u7", "u6"]
    assert ranked.loc[["u8", "u7", "u6"], "rank_self_confidence"].tolist() == [1, 2, 3]
    # Margins −.2 (u8: .3 against .5), −.1, .3.
    assert ranked.loc[["u8", "u7", "u6"], "rank_normalized_margin"].tolist() == [1, 2, 3]
    assert ranked["mislabelled"].to_dict()["u0"]
    assert pd.isna(ranked.loc["u4", "mislabelled"])
    np.testing.assert_allclose(ranked.loc["u3", "p_noisy_label"], 0.5)


def test_the_mass_taken_comes_before_the_probability_and_that_among_equals():
    kept_and_own = [(0.5, 0.9), (0.5, 0.2), (0.4, 0.8), (0.5, 0.2)]
    rows = [(T, "s", "male", "A", "A", "A", kept, 0.5, None, (p, 1 - p, 0)) for kept, p in kept_and_own]
    ranked = rank_labels(table_of(rows)).set_index("utterance_id")
    assert ranked["rank_loss"].to_dict() == {"u2": 1, "u1": 2, "u3": 2, "u0": 4}
    assert ranked["rank_self_confidence"].to_dict() == {"u1": 1, "u3": 1, "u2": 3, "u0": 4}


@pytest.mark.parametrize("kept", [1.0, [0.3, 0.2, 0.1, 0.4, 0.5, 0.6] + [None] * 3])
def test_a_loss_that_does_not_ask_the_network_ranks_by_the_labels_probability(six, kept):
    # The second is as the confidence penalty has it: the surer the network is of a label, the more it takes.
    ranked = rank_labels(six.assign(kept=kept, trust=six["trust"] * 0))
    train = ranked[ranked["subset"] == T]
    assert train["rank_loss"].tolist() == train["rank_self_confidence"].tolist()
    assert ranked[ranked["subset"] == V]["rank_loss"].isna().all()


def test_how_well_a_ranking_finds_is_known(six):
    found = compare_rankings(rank_labels(six)).set_index(["subset", "ranking"])
    loss = found.loc[(T, "loss")]
    # Judged in order u0 u1 u2 u3 u5: wrong, wrong, right, wrong, right.
    assert loss[["utterances", "judged", "mislabelled"]].tolist() == [6, 5, 3]
    assert loss["chance"] == 3 / 5
    assert loss["average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert loss["roc_auc"] == pytest.approx(5 / 6)
    assert loss["precision_at_k"] == pytest.approx(2 / 3)
    assert [loss["spearman_self_confidence"], loss["kendall_normalized_margin"]] == pytest.approx([1, 1])
    assert (V, "loss") not in found.index
    assert found.loc[(V, "self_confidence"), "average_precision"] == 1 / 2


def test_undefined_scores_are_missing(six):
    for truth in (six["noisy_label"], pd.array([None] * 9, dtype="string")):
        found = compare_rankings(rank_labels(six.assign(label=truth)))
        assert found[["average_precision", "roc_auc", "precision_at_k"]].isna().all(axis=None)
        assert (found["mislabelled"] == 0).all()
    equal = six.assign(p_A=1 / 3, p_B=1 / 3, p_C=1 / 3, trust=0.0)
    found = compare_rankings(rank_labels(equal))
    assert found[["spearman_self_confidence", "kendall_normalized_margin"]].isna().all(axis=None)
    assert found[found["subset"] == T]["roc_auc"].tolist() == [0.5] * 3
    assert found[found["subset"] == T]["precision_at_k"].tolist() == pytest.approx([3 / 5] * 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=8), st.data())
def test_equals_at_the_cut_count_by_their_mean_over_all_orders(items, data):
    wrong, suspicion = np.array([item[0] for item in items]), np.array([float(item[1]) for item in items])
    k = data.draw(st.integers(1, len(items)))
    rng = np.random.default_rng(0)
    shuffled = []
    for _ in range(400):
        order = rng.permutation(len(items))
        first = order[np.argsort(-suspicion[order], kind="stable")][:k]
        shuffled.append(wrong[first].mean())
    assert precision_at(wrong, suspicion, k) == pytest.approx(np.mean(shuffled), abs=0.1)


def test_test_utterances_have_no_noisy_label_and_no_rank(six):
    tested = six.assign(subset="test", noisy_label=pd.array([None] * 9, dtype="string"))
    pd.testing.assert_frame_equal(rank_labels(pd.concat([six, tested], ignore_index=True)), rank_labels(six))


# The section


def test_precision_and_recall_are_means_over_all_trials_of_a_method(made_store):
    made_store.confirm({("proselflc", "noisy-B", "search-1"): 0.8})
    found = section(made_store.records(), Options())
    (sentence,) = [line for line in found.sentences if "precision" in line]
    # made_records: precision .5 and recall .2 in every epoch of its three seeds.
    assert sentence.startswith(
        "ProSelfLC at noisy-B, last epoch (mean of 3 trials): of the labels that it changed, 50%"
    )
    drawn = {figure.name: figure for figure in found.figures}
    assert drawn["correction_curves"].alternative == sentence
    axes = drawn["correction_curves"].figure.axes
    assert axes[0].get_ylabel() == "precision of the corrections, %"
    assert set(axes[0].lines[0].get_ydata()) == {50}
    assert axes[0].lines[0].get_color() == method_style("proselflc")[0]
    assert re.fullmatch(
        r"ProSelfLC at noisy-B: most often \w+ to \w+, \d+ labels, \d+ of them rightly\.",
        drawn["corrections"].alternative,
    )
    assert "spearman" not in found.tables[3].text
    assert any("ρ: Spearman's rank correlation" in note for note in found.notes)
    tables = {table.name: table.data for table in found.tables}
    assert len(tables["correction_curves"]) == 3 * EPOCHS
    assert set(tables["summary"]["trial"]) == {"search-1 seed 1 fold 4"}
    assert {figure.name for figure in found.figures} == {"corrections", "correction_curves"}
    assert "one trial for each method" in " ".join(found.notes)
    assert not found.sounds
    assert any(line.startswith("No audio: run") and "does not exist here" in line for line in found.missing)
    assert not any("nan" in line for line in (*found.sentences, *found.notes, *found.missing))


def test_without_any_finished_trial_the_section_says_how_to_resume(made_store):
    made_store.search({("proselflc", "clean"): [0.5]}, stopped=1)
    found = section(made_store.records(), Options())
    assert not found.tables
    assert "has finished yet" in found.missing[0]
    assert "--resume" in found.missing[0]


# The command line


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """URI of a database for all tests; each has an experiment of its own."""
    return make_store(tmp_path_factory.mktemp("store")).uri


@pytest.fixture
def record(store, tmp_path, request):
    """Make trials as a study records them, and return run ids."""
    client = open_client(store)
    experiment = client.create_experiment(request.node.name, artifact_location=(tmp_path / "artifacts").as_uri())

    def make(space, noise, table=None, **tags):
        about = {"kind": TRIAL, "stage": SEARCH, "study": "s", "space": space, "noise": noise, "trial": "001"}
        about |= {"noise.rate": "0.5", "status": FINISHED, "searched": "", "protocol": "p", "select_on": "noisy"}
        run = client.create_run(experiment, tags={**about, **tags}).info.run_id
        client.log_metric(run, "val_noisy/uar", 0.5)
        client.log_inputs(run, [dataset()])
        if table is not None:
            table.to_parquet(tmp_path / UTTERANCES, index=False)
            client.log_artifact(run, str(tmp_path / UTTERANCES))
        return run

    return make


def dataset():
    from mlflow.entities import Dataset, DatasetInput

    return DatasetInput(Dataset("d", "digest", "local", "{}", schema='{"classes": ["A", "B", "C"]}'), [])


@pytest.fixture
def call(call_section, store, tmp_path, request):
    """Run the command on the experiment of the test."""

    def run(*arguments):
        where = ["--tracking-uri", store, "--output", str(tmp_path / "output")]
        if not {"--run", "--experiment"} & {*arguments}:
            where += ["--experiment", request.node.name]
        return call_section("corrections", *where, *arguments)

    return run


def test_the_best_trial_of_each_level_and_space_is_reported_and_written(six, record, call, tmp_path):
    still = six.assign(corrected_label=six["noisy_label"], first_epoch_changed=pd.NA, kept=1.0, trust=0.0)
    flipping, plain = record("proselflc", "noisy-A", six), record("cross_entropy", "noisy-A", still)
    code, printed, error = call()
    assert (code, error) == (0, "")
    assert "Corrected labels, the 10 most frequent pairs of each method" in printed
    assert "No label is corrected at the end by cross entropy at noisy-A." in printed
    assert "cross entropy at noisy-A: the loss corrects no labels by the network's predictions" in printed
    assert "cross entropy and ProSelfLC at noisy-A: some true labels are unknown" in printed
    assert (
        "ProSelfLC at noisy-A changed 5 labels, first in epochs 1 to 4 (half of them by epoch 3); of these, 1 changed "
        "back." in printed
    )
    folder = tmp_path / "output"
    pairs = pd.read_csv(folder / "pairs.csv")
    assert set(pairs["run_id"]) == {flipping}
    assert pairs[pairs["by"] == "all"]["flips"].tolist() == [3, 1]
    ranked = pd.read_csv(folder / "suspicious.csv")
    assert ranked.groupby("run_id").size().to_dict() == {flipping: 9, plain: 9}
    assert len(pd.read_csv(folder / "ranking.csv")) == 2 * (3 + 2)
    assert set(pd.read_csv(folder / "summary.csv")["by"]) == {"all", "gender", "speaker"}
    assert pd.read_csv(folder / "first_changes.csv")["utterances"].tolist() == [1, 1, 2, 1]
    page = (folder / "corrections.md").read_text()
    assert "| A | B | 3 | 2 | 2 (2) | 1 (0) |" in page
    assert "| C | A | 1 | – | – | 1 (–) |" in page
    assert "in-sample" in page
    assert (folder / "corrections.png").stat().st_size > 5_000
    assert "A → B" in (folder / "corrections.svg").read_text()


def test_one_trial_can_be_asked_for(six, record, call, tmp_path):
    record("proselflc", "noisy-A", six)
    other = record("proselflc", "noisy-A", six, trial="002", status="stopped")
    code, printed, _ = call("--run", other)
    assert code == 0
    assert "Label corrections of ProSelfLC at noisy-A, trial 002" in printed
    assert set(pd.read_csv(tmp_path / "output" / "summary.csv")["trial"]) == {2}


def test_a_figure_of_an_earlier_call_is_removed(six, record, call, tmp_path):
    run = record("proselflc", "noisy-A", six)
    call("--run", run)
    still = six.assign(corrected_label=six["noisy_label"], first_epoch_changed=pd.NA)
    assert call("--run", record("cross_entropy", "noisy-A", still))[0] == 0
    assert {path.suffix for path in (tmp_path / "output").iterdir()} == {".csv", ".md", ".tex"}


def test_rankings_that_say_nothing_are_not_displayed(six):
    def tabled(table):
        return compare_rankings(rank_labels(table)).assign(noise="noisy-A", space="elr", run_id="r")

    assert ranking_text(tabled(six), {"r"})["ranking"].tolist().count("loss") == 1
    assert "loss" not in set(ranking_text(tabled(six), set())["ranking"])
    assert ranking_text(tabled(six.assign(label=six["noisy_label"])), {"r"}).empty  # there is nothing to find
    unknown = ranking_text(tabled(six.assign(label=pd.array([None] * 9, dtype="string"))), {"r"})
    assert [name for name in unknown if name.startswith(("AUC", "average", "chance", "P@k"))] == []
    assert {"ρ with confidence", "ρ with margin"} <= {*unknown}


def test_methods_that_correct_nothing_have_no_rows_of_zeros(six):
    still = six.assign(corrected_label=six["noisy_label"])
    summary = pd.concat(
        by_group(table, correction_scores).assign(noise="noisy-A", space=space, run_id=space)
        for space, table in (("elr", still), ("proselflc", six))
    )
    text = scores_text(summary)
    assert set(text["method"]) == {"ProSelfLC"}
    assert text["group"].tolist() == ["all", "female", "male"]


def test_trials_without_a_table_are_named_and_the_others_shown(six, record, call):
    record("proselflc", "noisy-A", six)
    old = record("cross_entropy", "noisy-A")
    code, printed, _ = call()
    assert code == 0
    assert f"1 of 2 trials have no {UTTERANCES}" in printed
    assert f"cross entropy at noisy-A (run {old})" in printed


def test_without_truth_and_gender_it_says_so(six, record, call):
    unknown = six.assign(label=pd.array([None] * 9, dtype="string"), gender=pd.array(["unknown"] * 9, dtype="string"))
    record("proselflc", "given", unknown, **{"noise.rate": ""})
    code, printed, _ = call()
    assert code == 0
    assert "no true label is known" in printed
    assert "no speaker's gender is known" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--run", "0" * 32), "cannot be read from sqlite"),
        (("--run", "x", "--experiment", "e"), "leave --experiment and --study out"),
        (("--experiment", "f"), "unknown experiment 'f'"),
        (("--study", "t"), "unknown study 't'"),
    ],
)
def test_mistakes_are_reported(record, call, arguments, message):
    record("proselflc", "noisy-A")
    code, _, error = call(*arguments)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_a_parent_run_is_no_trial(record, call):
    code, _, error = call("--run", record("proselflc", "noisy-A", kind="parent"))
    assert code == 2
    assert "is no trial of a study" in error


@pytest.mark.parametrize(
    ("status", "message"), [("stopped", "has finished yet"), (FINISHED, f"1 of 1 trials have no {UTTERANCES}")]
)
def test_nothing_to_show_is_one_sentence_and_no_mistake(record, call, tmp_path, status, message):
    record("proselflc", "noisy-A", status=status)
    code, printed, error = call()
    assert (code, error) == (0, "")
    assert message in printed
    assert "wrote" not in printed
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("damage", ["torn", "another"])
def test_a_damaged_table_is_reported_with_its_run(six, record, call, store, damage):
    run = record("proselflc", "noisy-A", six)
    path = Path(MlflowClient(store).get_run(run).info.artifact_uri.removeprefix("file://")) / UTTERANCES
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        six.drop(columns="kept").to_parquet(path)
    code, _, error = call()
    assert code == 2
    assert run in error
    assert ("cannot be read" if damage == "torn" else "it lacks kept") in error


def test_an_output_that_cannot_be_a_folder_is_reported(six, record, call, tmp_path):
    record("proselflc", "noisy-A", six)
    (tmp_path / "output").touch()
    code, _, error = call()
    assert code == 2
    assert "is not writable" in error
