"""Tests of all search spaces that come with the project, and of user-defined spaces."""

import importlib
import re
import sys
import warnings

import optuna
import pytest
import ray

from ser.config import Config, corpus_defaults
from ser.losses import LOSSES
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.commands import run, session
from study.run import main
from study.schema import SELECTIONS
from study.search.journal import Journal
from study.setup.spaces import load_space, space_names
from tests.helpers.corpus_trees import BUILDERS

OPTIMIZER = {"optimizer.lr": "0.0003 to 0.01, logarithmic", "optimizer.weight_decay": "0.0001 to 0.1, logarithmic"}


def described(space):
    """Return the ranges that ``--list-spaces`` prints, by parameter."""
    pairs = (re.fullmatch(r"    (\S+)  +(.+)", line) for line in space.describe())
    return {pair[1]: pair[2] for pair in pairs if pair and not pair[1].startswith("point")}


# All spaces


def test_every_loss_has_its_space_one_has_all_and_one_has_the_models_without_a_loss():
    assert set(space_names()) == {*LOSSES, "all_losses", "classical"}


@pytest.mark.parametrize("name", space_names())
@pytest.mark.parametrize("corpus", ["synthetic", "ravdess"])
def test_a_space_builds_configurations_and_cites_its_sources(name, corpus):
    space = load_space(name, {})
    searched = space.check({**corpus_defaults(corpus), "model.name": "cnn14"})
    assert searched
    assert space.points_to_evaluate
    module = importlib.import_module(f"search_spaces.{name}")
    assert re.search(r"\b(19|20)\d\d\b", module.__doc__), "no year of a source"


@pytest.mark.parametrize("name", LOSSES)
def test_a_space_trains_the_loss_that_it_is_named_after(name):
    space = load_space(name, {})
    assert space.loss_names() == (name,)


@pytest.mark.parametrize("name", sorted({*space_names()} - {"classical"}))
def test_the_optimiser_is_searched_in_the_same_ranges_everywhere(name):
    found = described(load_space(name, {}))
    assert {key: value for key, value in found.items() if key.startswith("optimizer.")} == OPTIMIZER


@pytest.mark.parametrize("name", space_names())
def test_the_points_of_a_space_name_what_is_searched_and_lie_within_its_ranges(name):
    space = load_space(name, {})
    study = optuna.create_study()
    for point in space.points_to_evaluate:
        study.enqueue_trial(dict(point))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna warns about a value outside its range
            trial, _ = space.ask(study)
        assert trial.params == dict(point)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("label_smoothing", {"loss.epsilon": 0.1}),
        ("confidence_penalty", {"loss.epsilon": 1 / 11}),
        ("label_correction", {"loss.epsilon": 0.05}),
        ("generalized_cross_entropy", {"loss.q": 0.7}),
        ("symmetric_cross_entropy", {"loss.alpha": 0.1, "loss.beta": 1.0}),
        ("mixup", {"loss.alpha": 0.2}),
        ("forward_correction", {"loss.warmup_ratio": 0.5, "loss.quantile": 0.97}),
        ("normalized_losses", {"loss.alpha": 1.0, "loss.beta": 1.0}),
        ("elr", {"loss.strength": 3.0, "loss.momentum": 0.7}),
        ("focal", {"loss.gamma": 2.0}),
    ],
)
def test_the_first_point_is_the_published_default(name, first):
    (point, *_) = load_space(name, {}).points_to_evaluate
    assert {key: value for key, value in point.items() if key.startswith("loss.")} == first


def test_the_control_is_searched_as_proselflc_is():
    control, proselflc = load_space("reweighting_control", {}), load_space("proselflc", {})
    ranges = proselflc.distributions()
    del ranges["loss.target_gradient"]
    assert control.distributions() == ranges
    control_points, points = (list(space.examples())[:3] for space in (control, proselflc))
    for ours, theirs in zip(control_points, points, strict=True):
        assert {**theirs, "loss.name": "reweighting_control"} == {
            **ours,
            "loss.target_gradient": theirs["loss.target_gradient"],
        }


def test_proselflc_names_its_gradient_and_its_temperature_in_every_configuration():
    for values in load_space("proselflc", {}).examples():
        assert isinstance(values["loss.target_gradient"], bool)
        if values["loss.target_gradient"]:
            assert (values["loss.temperature.kind"], values["loss.temperature.start"]) == ("constant", 1.0)


def test_the_published_default_of_proselflc_is_complete():
    default = Config.from_dotted(next(load_space("proselflc", {}).examples()))
    assert default.loss.parameters == {
        "target_gradient": True,
        "trust": "entropy",
        "transit_time_ratio": 0.5,
        "exp_base": 10.0,
        "temperature": {"kind": "constant", "start": 1.0, "end": 1.0},
    }


# All losses in one space


def test_all_losses_but_the_oracle_are_searched_together():
    space = load_space("all_losses", {})
    assert set(space.loss_names()) == LOSSES.keys() - {"soft_labels"}
    assert {point["loss.name"] for point in space.points_to_evaluate} == LOSSES.keys() - {"soft_labels"}


def test_all_losses_have_the_ranges_of_their_own_spaces():
    together = load_space("all_losses", {}).distributions()
    for name in LOSSES.keys() - {"soft_labels"}:
        alone = load_space(name, {}).distributions()
        assert {key: together[key] for key in alone} == alone


def test_the_conditional_space_is_searched_with_what_belongs_to_the_loss_alone(tmp_path):
    journal = Journal(tmp_path, load_space("all_losses", {}), SELECTIONS["noisy"], seed=0)
    for _ in range(40):
        journal.finish(journal.suggest().number, 1, 0.3)
    for entry in journal.entries():
        values, number = dict(entry.configuration), entry.number
        own = next(load_space(values["loss.name"], {}).examples())
        assert values.keys() == own.keys(), number
        Config.from_dotted(values)


# List of spaces


def test_the_list_describes_every_space_and_starts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "prepare", lambda *_: pytest.fail("a study has begun"))
    monkeypatch.setattr(sys, "argv", ["run.py", "--list-spaces"])
    assert run_command(main) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {*space_names()} < {*lines}
    assert lines["cross_entropy"][1:3] == ["cross_entropy", "2"]
    assert lines["all_losses"][1:3] == ["searched", "18"]
    monkeypatch.setattr(sys, "argv", ["run.py", "--list-spaces", *space_names()])
    assert run_command(main) == 0
    assert not ray.is_initialized()
    assert not list(tmp_path.iterdir())
    blocks = {block.splitlines()[0]: block for block in capsys.readouterr().out.strip().split("\n\n")}
    assert list(blocks) == space_names()
    for name, block in blocks.items():
        assert importlib.import_module(f"search_spaces.{name}").__doc__.splitlines()[0] in block
    assert re.search(r"loss\.epsilon +0\.05 to 0\.5\n", blocks["label_smoothing"])
    assert re.search(r"loss\.target_gradient +one of True, False\n", blocks["proselflc"])
    assert re.search(r"loss\.temperature\.end +0\.4 to 1 in steps of 0\.1\n", blocks["reweighting_control"])
    assert re.search(r"loss\.trust += entropy\n", blocks["proselflc"])
    assert "point 1: loss.strength 3, loss.momentum 0.7, optimizer.lr 0.001" in blocks["elr"]


# Votes


def test_a_corpus_without_votes_is_an_error_before_any_trial(tmp_path, monkeypatch, capsys):
    root = tmp_path / "ravdess"
    BUILDERS["ravdess"](root)
    arguments = ["--space", "cross_entropy", "soft_labels", "--corpus", "ravdess", "--corpus-root", str(root)]
    places = ["--storage-path", str(tmp_path / "out"), "--tracking-uri", f"sqlite:///{tmp_path}/m.db"]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments, *places, "--noise", "clean"])
    monkeypatch.setattr(session, "start_ray", lambda *_: pytest.fail("a study has begun"))
    assert run_command(main) == 2
    assert not ray.is_initialized()
    message = " ".join(capsys.readouterr().err.split())
    assert "space 'soft_labels'" in message
    assert "the corpus has no votes" in message


# Fixed parameters, and user-defined spaces


@pytest.mark.parametrize("name", ["reweighting_control", "proselflc"])
def test_a_fixed_parameter_is_not_searched(name):
    space = load_space(name, {"loss.trust": "confidence", "optimizer.lr": 1e-3})
    assert "optimizer.lr" not in space.distributions()
    assert all("optimizer.lr" not in point for point in space.points_to_evaluate)
    searched = space.check(corpus_defaults("synthetic"))
    assert "optimizer.lr" not in searched
    study = optuna.create_study()
    _, values = space.ask(study)
    assert (values["loss.trust"], values["optimizer.lr"]) == ("confidence", 1e-3)


@pytest.mark.parametrize("flows", [True, False])
def test_a_conditional_space_follows_the_branch_that_is_fixed(flows):
    space = load_space("proselflc", {"loss.target_gradient": flows})
    assert ("loss.temperature.start" in space.check({})) is not flows
    assert {values["loss.target_gradient"] for values in space.examples()} == {flows}


def test_a_space_of_ones_own_can_be_conditional(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        '"""Mine, 2026."""\n'
        "def SPACE(trial):\n"
        "    if trial.suggest_categorical('loss.name', ['cross_entropy', 'proselflc']) == 'proselflc':\n"
        "        trial.suggest_float('loss.transit_time_ratio', .1, .8)\n"
        "        return {'loss.exp_base': 10.0}\n"
        "POINTS = [{'loss.name': 'cross_entropy'}]\n"
    )
    space = load_space(str(path), {})
    assert space.name == "mine"
    assert space.check(corpus_defaults("synthetic")) == ("loss.name", "loss.transit_time_ratio")
    journal = Journal(tmp_path / "search", space, SELECTIONS["noisy"], seed=0)
    suggested = [journal.suggest().configuration for _ in range(8)]
    assert suggested[0] == {"loss.name": "cross_entropy"}
    assert {values["loss.name"] for values in suggested} == {"cross_entropy", "proselflc"}
    assert all(("loss.exp_base" in values) == (values["loss.name"] == "proselflc") for values in suggested)


def test_a_space_searches_the_parameters_of_a_loss_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "losses_of_mine.py").write_text(
        "from ser.losses import LabelSmoothing\n\n\nclass Smoother(LabelSmoothing):\n    pass\n"
    )
    (tmp_path / "smoother.py").write_text(
        "'''Mine, 2026.'''\nfrom ray import tune\n"
        "SPACE = {'loss.name': 'losses_of_mine.Smoother', 'loss.epsilon': tune.uniform(0.1, 0.2)}\n"
        "POINTS = [{'loss.epsilon': 0.1}]\n"
    )
    space = load_space("smoother.py", {})
    assert space.check(corpus_defaults("synthetic")) == ("loss.epsilon",)
    assert space.loss_names() == ("losses_of_mine.Smoother",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'''Doc 2026.'''\nSPACE = {}\n", "POINTS"),
        ("SPACE = {}\nPOINTS = []\n", "docstring"),
        (
            "'''Doc.'''\nfrom ray import tune\nSPACE = {'optimizer.lr': tune.uniform(0, 1)}\nPOINTS = [{}]\n",
            "optimizer.lr",
        ),
        ("'''Doc.'''\nimport nothing_of_the_kind\n", "nothing_of_the_kind"),
    ],
)
def test_a_broken_space_says_what_it_lacks(tmp_path, text, said):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load_space(str(path), {})


def test_a_range_that_leaves_the_allowed_values_is_found_before_a_trial(tmp_path):
    path = tmp_path / "wide.py"
    path.write_text(
        "'''Doc.'''\nfrom ray import tune\n"
        "SPACE = {'loss.name': 'proselflc', 'loss.exp_base': 4.0, 'loss.transit_time_ratio': tune.uniform(0.5, 9.0)}\n"
        "POINTS = [{'loss.transit_time_ratio': 0.5}]\n"
    )
    with pytest.raises(UserError, match=r"space 'wide'.*transit_time_ratio"):
        load_space(str(path), {}).check(corpus_defaults("synthetic"))


@pytest.mark.parametrize("name", ["reweighting_control", "proselflc"])
def test_fixing_a_group_takes_its_parts_out_of_the_search(name):
    fixed = {"loss.temperature": 0.5, **({"loss.target_gradient": False} if name == "proselflc" else {})}
    space = load_space(name, fixed)
    assert not [key for values in space.examples() for key in values if key.startswith("loss.temperature.")]
    assert "loss.transit_time_ratio" in space.check(corpus_defaults("synthetic"))
