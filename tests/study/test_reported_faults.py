"""What has gone wrong in the studies of others, each with the value that is right here (docs/faults.md)."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils import validation
from torch import Tensor

from ser.config import Config
from ser.losses import Loss, LossOutput, make_output
from ser.utils.checks import LONGEST_VALUE, check_recordable
from ser.utils.errors import UserError
from study.options import Sampler
from study.schema import FINISHED, SELECTIONS
from study.search.journal import Journal
from study.setup.spaces import load_space
from study.tracking.searches import Trials, best_runs

SPACE = '''"""Range as its author reads it."""
from ray import tune
SPACE = {{"loss.name": "cross_entropy", {range}}}
POINTS = []
'''


@dataclass(frozen=True)
class AnyLoss(Loss):
    """Loss with a parameter that takes any value."""

    note: Any = None

    def _compute(self, z: Tensor, q: Tensor, step: int, index: Tensor) -> LossOutput:
        return make_output(-(z.log_softmax(1) * q).sum(1), q)


def note(value: Any) -> Any:
    """Return a parameter as a trial trains with it."""
    return Config.from_dotted({"loss.name": f"{__name__}.AnyLoss", "loss.note": value}).to_dotted()["loss.note"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(values)
def test_a_parameter_read_back_from_its_record_is_what_was_trained_with(value: Any) -> None:
    """Records are texts: elsewhere None comes back as 'None', 1e-05 as a text, and 2.0 as 2."""
    trained = note(value)
    recorded = trained if isinstance(trained, str) else json.dumps(trained)
    back = note(recorded)
    assert back == trained
    assert type(back) is type(trained)


def test_no_parameter_is_longer_than_what_mlflow_keeps() -> None:
    """MLflow cuts a longer one, and a confirmation would train with what is left; the limit was 250, then 500."""
    assert LONGEST_VALUE <= validation.MAX_PARAM_VAL_LENGTH
    check_recordable("n" * validation.MAX_ENTITY_KEY_LENGTH, "v" * LONGEST_VALUE)
    with pytest.raises(UserError, match="at most 250 letters"):
        check_recordable("n" * (validation.MAX_ENTITY_KEY_LENGTH + 1), "v")


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        pytest.param('"augment.time_masks": tune.randint(1, 4)', {1, 2, 3}, id="an upper bound that is excluded"),
        pytest.param('"augment.time_masks": tune.lograndint(1, 4)', {1, 2, 3}, id="the same on a logarithmic range"),
        pytest.param('"augment.time_masks": tune.qrandint(2, 8, 3)', {2, 5, 8}, id="steps that begin at the low bound"),
        pytest.param('"model.dropout": tune.quniform(0.0, 0.9, 0.3)', {0.0, 0.3, 0.6, 0.9}, id="both bounds of steps"),
        pytest.param('"augment.time_masks": tune.choice([4, 1])', {1, 4}, id="a choice"),
    ],
)
def test_a_range_has_the_values_that_ray_tune_documents(tmp_path: Path, range_: str, expected: set[float]) -> None:
    (tmp_path / "own.py").write_text(SPACE.format(range=range_))
    space = load_space(str(tmp_path / "own.py"), {})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    (key,) = space.distributions()
    assert {round(space.ask(study)[1][key], 9) for _ in range(60)} == expected


def test_steps_on_a_logarithmic_range_are_an_error(tmp_path: Path) -> None:
    """Ray Tune drops the steps for Optuna, and logs that the study goes without them."""
    (tmp_path / "own.py").write_text(SPACE.format(range='"optimizer.lr": tune.qloguniform(1e-4, 1e-1, 1e-4)'))
    with pytest.raises(UserError, match="no steps"):
        load_space(str(tmp_path / "own.py"), {})


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_trials_that_run_at_a_time_have_configurations_of_their_own(tmp_path: Path, sampler: str) -> None:
    """A sampler with one seed for all workers gives each the same configuration until the first trial has ended."""
    journal = Journal(tmp_path, load_space("cross_entropy", {}), SELECTIONS["noisy"], 0, sampler)
    suggested = [json.dumps(journal.suggest().configuration, sort_keys=True) for _ in range(8)]
    assert len(set(suggested)) == 8


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_a_resumed_search_does_not_begin_its_random_numbers_again(tmp_path: Path, sampler: str) -> None:
    """Elsewhere a sampler with a seed suggests after each restart what it has suggested before."""
    space, noisy = load_space("cross_entropy", {}), SELECTIONS["noisy"]
    learning_rates = []
    for _ in range(3):
        journal = Journal(tmp_path, space, noisy, 0, sampler)
        for _ in range(2):
            entry = journal.suggest()
            journal.finish(entry.number, 1, 0.3)
            learning_rates.append(entry.configuration["optimizer.lr"])
    assert len(set(learning_rates)) == 6


@pytest.mark.parametrize("selection", ["noisy", "soft"])
def test_a_score_that_is_not_a_number_is_never_the_best(selection: str) -> None:
    """No number is larger than NaN, so that a search for the largest keeps it if it comes first."""
    columns = {"noise": "clean", "rate": 0.0, "space": "a", "status": FINISHED, "parameters": {}}
    rows = [
        {**columns, "selected": score, "trial": str(number), "start": number, "run_id": str(number)}
        for number, score in enumerate([math.nan, 0.4, 0.4, math.nan], start=1)
    ]
    best = best_runs(Trials(pd.DataFrame(rows), SELECTIONS[selection], 0.25, 0), top=4)
    assert list(best["trial"]) == ["2", "3", "1", "4"]
