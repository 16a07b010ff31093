"""A space with a mistake ends in one message before any trial; suggestions that a space prunes are drawn again."""

import sys

import optuna
import pytest
import ray
from ray import tune

from search_spaces import distribution, suggest
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.commands import session
from study.run import main
from study.setup.spaces import SuggestionError, load_space

DICT = "'''Mine, 2026.'''\nfrom ray import tune\nPOINTS = []\n"
FUNCTION = "'''Mine, 2026.'''\nimport optuna\nPOINTS = []\ndef SPACE(trial):\n"


def written(folder, text, name="mine"):
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def message_of(folder, text):
    """Return what is wrong with a space."""
    with pytest.raises(UserError) as caught:
        load_space(written(folder, text), {}).check({})
    return str(caught.value)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("'optimizer.lr': tune.choice([])", "optimizer.lr cannot be searched: .* one or more elements"),
        ("'optimizer.lr': tune.uniform(0.1, 0.01)", "optimizer.lr cannot be searched: .*low=0.1, high=0.01"),
        ("'optimizer.lr': tune.sample_from(lambda spec: 0.1)", "optimizer.lr cannot be searched: .*Use tune.choice"),
        ("'optimizer.lr': tune.randn(0, 1)", "optimizer.lr cannot be searched: .*Use tune.choice"),
        ("'optimizer.lr': tune.qloguniform(0.1, 1, 0.1)", "optimizer.lr cannot be searched: a logarithmic range has"),
        ("'optimizer.lr': tune.loguniform(0, 1)", r"cannot be loaded: ValueError: .*lower bound.*\(line 4\)"),
        ("'optimizer.lr': tune.uniform(0, float('inf'))", r"cannot be loaded: ValueError: .*upper bound"),
        ("'training.batch_size': tune.choice([[8], [16]])", r"training.batch_size has the choice \[8\], a list"),
        ("'optimizer.lr': tune.choice([0.1, float('nan')])", "optimizer.lr has the choice nan"),
        ("'optimizer.lr': tune.grid_search([0.1, 0.2])", "optimizer.lr = .*grid_search.*a dict.*tune.choice"),
        ("'optimizer': {'lr': tune.uniform(0.1, 0.2)}", "optimizer = .*a dict. Expected is a number"),
        ("'optimizer.lr': (0.1, 0.2).__iter__()", "optimizer.lr = .*a tuple_iterator. Expected is a number"),
        ("3: tune.uniform(0.1, 0.2)", "the key 3; dotted names are expected"),
        ("'optimiser.lr': tune.uniform(0.1, 0.2)", "unknown configuration key 'optimiser.lr'.*'optimizer.lr'"),
    ],
)
def test_a_domain_that_cannot_be_searched_is_named(tmp_path, space, said):
    with pytest.raises(UserError, match=f"(?s)mine.*{said}"):
        load_space(written(tmp_path, f"{DICT}SPACE = {{{space}}}\n"), {}).check({})


RANGES = (
    "SPACE = {'loss.name': 'elr', 'loss.strength': tune.uniform(1, 9), 'loss.momentum': tune.choice([0.5, 0.75])}\n"
)


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("['loss.strength', 3.0]", "point 1 in POINTS is a list"),
        ("{'loss.strength': 3.0}", "point 1 in POINTS lacks loss.momentum"),
        ("{'loss.strength': 3.0, 'loss.momentum': 0.6}", "loss.momentum = 0.6. Expected is one of 0.5, 0.75"),
        ("{'loss.strength': 10.0, 'loss.momentum': 0.5}", "loss.strength = 10.0. Expected is 1 to 9"),
        ("{'loss.strength': '3', 'loss.momentum': 0.5}", "loss.strength = '3'. Expected is 1 to 9"),
        ("{'loss.strength': True, 'loss.momentum': 0.5}", "loss.strength = True. Expected is 1 to 9"),
        ("{'loss.strength': float('nan'), 'loss.momentum': 0.5}", "loss.strength = nan. Expected is 1 to 9"),
        ("{'loss.strength': 3, 'loss.momentum': 0.5, 'loss.momentumm': 0.5}", "loss.momentumm = 0.5, which is not"),
        ("{'loss.strength': 3, 'loss.momentum': 0.5, 'loss.name': 'focal'}", "loss.name = 'focal', which is not"),
    ],
)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_point_that_cannot_be_evaluated_is_named(tmp_path, point, said, conditional):
    text = f"{DICT}{RANGES}POINTS = [{point}]\n"
    if conditional:
        text += "from search_spaces import suggest\nRANGES = SPACE\ndef SPACE(trial): return suggest(trial, RANGES)\n"
    message = message_of(tmp_path, text)
    # Optuna itself refuses values that no distribution of the kind can have.
    assert said in message or (conditional and "point 1 in POINTS: its function raises ValueError" in message)


def test_a_point_may_repeat_a_constant(tmp_path):
    point = "{'loss.strength': 3, 'loss.momentum': 0.5, 'loss.name': 'elr'}"
    space = load_space(written(tmp_path, f"{DICT}{RANGES}POINTS = [{point}]\n"), {})
    assert space.check({}) == ("loss.momentum", "loss.strength")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return {'optimizer.lr': {}['lr']}", "its function raises KeyError: 'lr' (line 5)"),
        ("raise SystemExit(3)", "its function raises SystemExit: 3 (line 5)"),
        ("raise RuntimeError", "its function raises RuntimeError (line 5)"),
        ("return [trial.suggest_float('optimizer.lr', 0.1, 0.2)]", "its function returns a list"),
        ("return {1: 2}", "its function returns the key 1"),
        ("return {'optimizer.lr': object()}", "an object. Expected is a number"),
        ("return {'loss.name': 'nothing'}", "unknown loss 'nothing'"),
        ("return {'optimizer.lr': None}", "optimizer.lr"),
        ("trial.suggest_float('optimizer.lr', 0.0, 0.1, log=True)", "its function raises ValueError"),
        ("trial.suggest_float('optimizer.lr', float('nan'), 0.1)", "optimizer.lr has the range nan to 0.1"),
        ("trial.suggest_categorical('optimizer.lr', [(0.1,), (0.2,)])", "optimizer.lr has the choice (0.1,), a tuple"),
        (
            "a = trial.suggest_categorical('training.batch_size', [8, 16])\n"
            "    trial.suggest_categorical('model.width', [0.1, 0.2] if a == 8 else [0.2, 0.3])",
            "does not support dynamic value space",
        ),
        (
            "trial.suggest_float('optimizer.lr', 0.1, 0.2)\n    trial.suggest_float('optimizer.lr', 0.1, 0.3)",
            "suggests optimizer.lr twice",
        ),
        (
            "return {'optimizer.lr': 2 * trial.suggest_float('optimizer.lr', 0.1, 0.1)}",
            "its function returns optimizer.lr = 0.2, but has suggested 0.1 for it",
        ),
    ],
)
def test_what_a_function_may_not_do_is_named(tmp_path, body, said):
    message = message_of(tmp_path, f"{FUNCTION}    {body}\n")
    assert message.startswith("space 'mine'")
    assert said in message


@pytest.mark.parametrize("line", ["import sys; sys.exit(4)", "raise BaseException('no')", "SPACE = ", "1 / 0"])
def test_a_file_that_cannot_be_loaded_is_named_with_the_line(tmp_path, line):
    assert "cannot be loaded: " in message_of(tmp_path, f"{DICT}{line}\n")


def test_an_interruption_is_no_mistake_of_a_space(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        load_space(written(tmp_path, f"{DICT}raise KeyboardInterrupt\n"), {})
    with pytest.raises(KeyboardInterrupt):
        load_space(written(tmp_path, f"{FUNCTION}    raise KeyboardInterrupt\n", "other"), {}).check({})


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_the_command_ends_in_one_message_before_anything_starts(tmp_path, monkeypatch, capsys, more):
    path = written(tmp_path, f"{FUNCTION}    return {{'optimizer.lr': {{}}['lr']}}\n")
    places = ["--storage-path", str(tmp_path / "out"), "--tracking-uri", f"sqlite:///{tmp_path}/m.db"]
    monkeypatch.setattr(sys, "argv", ["run.py", "--space", path, *places, *more])
    monkeypatch.setattr(session, "start_ray", lambda *_: pytest.fail("a study has begun"))
    assert run_command(main) == 2
    assert not ray.is_initialized()
    assert not (tmp_path / "out").exists()
    message = " ".join(capsys.readouterr().err.split())
    assert message == "error: space 'mine': its function raises KeyError: 'lr' (line 5)."


# Suggestions that a space prunes

HALF = FUNCTION + (
    "    lr = trial.suggest_float('optimizer.lr', 0.0, 1.0)\n"
    "    if lr > {limit}:\n        raise optuna.TrialPruned\n"
    "    trial.suggest_float('optimizer.weight_decay', 0.0, 1.0)\n"
)


def test_a_pruned_suggestion_is_drawn_again(tmp_path):
    space = load_space(written(tmp_path, HALF.format(limit=0.1)), {})
    assert space.check({}) == ("optimizer.lr", "optimizer.weight_decay")
    values = list(space.examples())
    assert len(values) == 20
    assert max(one["optimizer.lr"] for one in values) <= 0.1
    # A rate of 0.1 is uniform on what is left: the mean of 20 is near 0.05.
    assert 0.03 < sum(one["optimizer.lr"] for one in values) / 20 < 0.07


def test_a_space_that_prunes_everything_is_an_error_after_a_thousand_draws(tmp_path):
    space = load_space(written(tmp_path, HALF.format(limit=-1)), {})
    study = optuna.create_study()
    with pytest.raises(SuggestionError, match="prunes 1000 suggestions in a row"):
        space.ask(study)
    assert len(study.trials) == 1000
    with pytest.raises(UserError, match="prunes 1000 suggestions in a row"):
        space.check({})


@pytest.mark.parametrize("fixed", [{}, {"optimizer.weight_decay": 0.0}])
def test_a_point_must_not_be_pruned(tmp_path, fixed):
    text = HALF.format(limit=0.1) + "POINTS = [{'optimizer.lr': 0.2, 'optimizer.weight_decay': 0.5}]\n"
    space = load_space(written(tmp_path, text), fixed)
    with pytest.raises(UserError, match="space 'mine': its function prunes point 1 in POINTS"):
        next(space.examples())


def test_after_ten_pruned_suggestions_of_a_sampler_the_next_are_random(tmp_path):
    class Stuck(optuna.samplers.RandomSampler):
        """Sampler that always suggests 1."""

        def sample_independent(self, *_):
            return 1.0

    space = load_space(written(tmp_path, HALF.format(limit=0.5)), {})
    study = optuna.create_study(sampler=Stuck())
    trial, values = space.ask(study, optuna.samplers.RandomSampler(seed=0))
    assert values["optimizer.lr"] <= 0.5
    assert [one.params["optimizer.lr"] == 1.0 for one in study.trials[:10]] == [True] * 10
    assert trial.number >= 10
    assert {one.state.name for one in study.trials[:-1]} == {"FAIL"}


# Domains of Ray Tune in conditional spaces


@pytest.mark.parametrize(
    "domain",
    [
        tune.choice([1, "a", None]), tune.uniform(0, 1), tune.loguniform(0.1, 1), tune.quniform(0, 1, 0.25),
        tune.randint(1, 9), tune.qrandint(2, 8, 2), tune.lograndint(1, 9),
    ],
)  # fmt: skip
def test_a_domain_means_the_same_in_a_dict_and_in_a_function(domain):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    assert suggest(trial, {"key": domain, "constant": 3}) == {"key": trial.params["key"], "constant": 3}
    assert trial.distributions["key"] == distribution(domain)


def test_an_integer_domain_has_no_upper_bound_in_itself():
    assert distribution(tune.randint(1, 9)) == optuna.distributions.IntDistribution(1, 8)


def test_steps_on_a_logarithmic_range_are_refused_in_a_function_too():
    with pytest.raises(ValueError, match="logarithmic"):
        suggest(optuna.create_study().ask(), {"key": tune.qloguniform(0.1, 1, 0.1)})
