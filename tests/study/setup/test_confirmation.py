"""What a confirmation trains, and which configuration each fold chooses."""

import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ser.config import Config
from ser.utils.errors import UserError
from study.commands.confirm import write_chosen
from study.options import ConfirmOptions, StudyOptions
from study.schema import SELECTIONS, exposure_of
from study.setup.candidates import choose, published_defaults
from study.setup.resolve import resolve
from study.setup.spaces import load_space
from study.tracking.confirmations import chosen, representatives
from study.tracking.opening import experiment_id, open_client
from study.tracking.searches import Trials, read_trials
from tests.helpers.made_records import make_search

OPTIONS = StudyOptions(
    corpus="table", corpus_root=Path("the calls.csv"), experiment="a b", name="its", tracking_uri="sqlite:////m.db"
)


@pytest.fixture
def store(tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    return client, experiment_id(client, uri, "made")


def trials_with(store, folder, configurations):
    """Return a search whose trials have these configurations; the last one has the best score."""
    client, experiment = store
    skills = [0.3 + 0.1 * number for number in range(len(configurations))]
    make_search(client, experiment, folder, {("cross_entropy", "noisy-B"): skills})
    trials = read_trials(client, experiment)
    order = {f"{number:03d}": values for number, values in enumerate(configurations, start=1)}
    table = trials.table.assign(all_parameters=[order[number] for number in trials.table["trial"]])
    return Trials(table, trials.selection, trials.chance, trials.others)


def test_the_best_and_the_default_are_confirmed(store, tmp_path):
    spaces = {"cross_entropy": load_space("cross_entropy", {})}
    rates = [{"optimizer.lr": rate} for rate in (1e-4, 2e-3, 3e-3)]
    found = choose(trials_with(store, tmp_path, rates), spaces, {}, top=2)
    assert [(one.name, one.configuration["optimizer.lr"]) for one in found] == [
        ("search-1", 3e-3), ("search-2", 2e-3), ("default", 1e-3),
    ]  # fmt: skip
    assert [bool(one.source) for one in found] == [True, True, False]


def test_a_default_that_was_best_is_confirmed_once(store, tmp_path):
    space = load_space("cross_entropy", {})
    default = Config.from_dotted(next(iter(space.examples()))).to_dotted()
    found = choose(trials_with(store, tmp_path, [{"optimizer.lr": 1e-4}, default]), {"cross_entropy": space}, {}, top=2)
    assert [one.name for one in found] == ["search-2", "default"]
    assert all(one.source for one in found)


@pytest.mark.parametrize("options", [{"seeds": 0}, {"top": -1}, {"resume": True}])
def test_mistakes_in_the_call_are_reported(options):
    with pytest.raises(UserError, match=r"--(seeds|top|resume)"):
        ConfirmOptions(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"corpus": "ravdess"}, "--corpus"),
        ({"settings": ("model.dropout=0",), "epochs": 3}, "--epochs, --set"),
        ({"seed": 4}, "--seed"),
    ],
)
def test_a_search_has_its_own_options(options, named):
    with pytest.raises(UserError, match=named):
        ConfirmOptions(**options)
    assert ConfirmOptions(space=("elr",), **options).space == ("elr",)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"seeds": 2}, "--seeds"), ({"reference": "elr"}, "--reference"), ({"noise": ("clean",)}, "--noise")],
)
def test_a_resumed_confirmation_follows_its_own_design(options, named):
    with pytest.raises(UserError, match=f"{named}: a resumed confirmation follows its own design"):
        ConfirmOptions(name="a", resume=True, **options)
    assert ConfirmOptions(name="a", resume=True, max_concurrent=1, time_budget="1h").resume


def test_published_defaults_are_complete_configurations():
    spaces = [load_space(name, {"model.width": 0.1}) for name in ("cross_entropy", "proselflc")]
    found = published_defaults(spaces, ["clean", "noisy-B"], {})
    assert [(one.noise, one.space, one.name, one.source) for one in found] == [
        ("clean", "cross_entropy", "default", ""), ("clean", "proselflc", "default", ""),
        ("noisy-B", "cross_entropy", "default", ""), ("noisy-B", "proselflc", "default", ""),
    ]  # fmt: skip
    assert {one.configuration["model.width"] for one in found} == {0.1}
    assert found[1].configuration["loss.exp_base"] == 10.0


ROWS = [
    # fold, candidate, selected, uar: search-1 is best on average, search-2 in fold 2
    (1, "search-1", 0.9, 0.50), (1, "search-2", 0.3, 0.99), (1, "default", 0.2, 0.99),
    (2, "search-1", 0.6, 0.99), (2, "search-2", 0.7, 0.40), (2, "default", 0.2, 0.99),
]  # fmt: skip


def made_table(rows=ROWS, **columns):
    table = pd.DataFrame(rows, columns=["fold", "candidate", "selected", "uar"])
    rest = {
        "study": "sure", "noise": "noisy-B", "space": "elr", "seed": 1, "status": "finished", "exposure": "unseen",
        "start": 0, "uar_stopped": 0.5, "parameters": [{"loss.name": "elr"}] * len(table),
        "run_id": [f"r{row}" for row in range(len(table))],
    }  # fmt: skip
    return table.assign(**rest | columns)


def test_each_fold_chooses_by_its_own_validation_speakers_and_never_by_the_mean():
    table = chosen(made_table(), SELECTIONS["noisy"])
    assert table[["fold", "candidate", "uar"]].to_numpy().tolist() == [[1, "search-1", 0.5], [2, "search-2", 0.4]]


def test_the_smallest_score_is_chosen_where_small_is_good():
    table = chosen(made_table(), SELECTIONS["soft"])
    assert list(table["candidate"]) == ["default", "default"]


def test_unfinished_trials_are_never_chosen():
    status = ["failed", "finished", "finished", "finished", "running", "finished"]
    assert list(chosen(made_table(status=status), SELECTIONS["noisy"])["candidate"]) == ["search-2", "search-1"]


def test_a_configuration_that_was_chosen_by_the_test_speakers_stands_last():
    exposure = ["chosen_by", "chosen_by", "unseen"] * 2
    assert list(chosen(made_table(exposure=exposure), SELECTIONS["noisy"])["candidate"]) == ["default", "default"]


def test_each_confirmation_chooses_for_itself():
    both = pd.concat([made_table(), made_table(study="later", seed=2)], ignore_index=True)
    assert len(chosen(both, SELECTIONS["noisy"])) == 4


def test_the_configuration_to_use_later_is_that_of_the_best_mean(tmp_path):
    table = made_table()
    assert list(representatives(table, SELECTIONS["noisy"])["candidate"]) == ["search-1"]
    (path,) = write_chosen(table, SELECTIONS["noisy"], OPTIONS, tmp_path / "chosen")
    assert path.name == "noisy-B-elr.yaml"
    assert Config.from_dotted(yaml.safe_load(path.read_text())).loss.name == "elr"
    assert "the calls: elr, search-1, for noise level noisy-B" in path.read_text()
    (command,) = (line for line in path.read_text().splitlines() if "analysis/report.py" in line)
    words = ["--experiment", "a b", "--study", "its", "--tracking-uri", "sqlite:////m.db"]
    assert shlex.split(command.partition("report.py ")[2]) == words


def test_an_output_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        write_chosen(made_table(), SELECTIONS["noisy"], OPTIONS, tmp_path / "file" / "below")


def test_a_confirmation_of_version_0_1_says_what_the_search_had_seen():
    assert exposure_of({"candidate": "search-1", "seen_by_search": "false"}) == "unseen"
    assert exposure_of({"candidate": "search-1", "seen_by_search": "true"}) == "trained_by"
    assert exposure_of({"candidate": "default", "seen_by_search": "true"}) == "unseen"


@pytest.mark.parametrize(
    ("options", "experiment"),
    [
        ({"corpus": "table", "corpus_root": Path("data/calls.csv")}, "calls"),
        ({"corpus": "table", "corpus_root": Path("calls.csv"), "experiment": "table"}, "table"),
        ({"corpus": "ravdess", "corpus_root": Path("data/speech")}, "ravdess"),
    ],
)
def test_the_default_experiment_of_a_table_is_the_name_of_its_file(options, experiment, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    assert resolve(StudyOptions(noise=("given",), **options)).experiment == experiment
