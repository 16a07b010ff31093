"""What the trials of a study take of GPUs, by its spaces and options."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.device.gpu_memory import memory_needed
from ser.training.task import Task
from study.backend.trial_resources import GpuDemand
from study.options import StudyOptions
from study.search import gpu_demand as module
from study.search.gpu_demand import gpu_demand, needs_gpu
from study.setup.prepared_study import Search
from study.setup.spaces import load_space
from study.trial.specification import TrialSpecification

OPTIONS = StudyOptions(width=0.125, batch_size=8, trials=7, settings=("training.crop_seconds=1",))


@pytest.fixture
def task(task_at: Callable[..., Task]) -> Task:
    return task_at("clean")


def search_of(
    task: Task, space: str = "cross_entropy", options: StudyOptions = OPTIONS, *, trials: int = 0, **values: Any
) -> Search:
    """Return the search of a space, or as many trainings of one configuration."""
    changed = {key.replace("__", "."): value for key, value in values.items()}
    planned = TrialSpecification({**OPTIONS.defaults, **OPTIONS.fixed, **changed}, 0, task, {})
    fixed = {} if space == "classical" else options.fixed
    return Search(load_space(space, fixed), (), "clean", task, (planned,) * trials)


def needed(task: Task, **values: Any) -> int:
    planned = search_of(task, trials=1, **values).planned[0].configuration
    return memory_needed(Config.from_dotted(planned), FeatureStore.open(task.store), len(task.classes))


def test_a_narrow_network_takes_the_memory_of_its_batches(task: Task) -> None:
    assert gpu_demand([search_of(task)], OPTIONS) == GpuDemand(True, needed(task), 7)
    larger = replace(OPTIONS, batch_size=64)
    assert (
        gpu_demand([search_of(task, options=larger)], larger).memory
        == needed(task, training__batch_size=64)
        > needed(task)
    )


def test_the_neediest_network_of_all_searches_decides(task: Task) -> None:
    small = search_of(task, trials=3)
    large = search_of(task, trials=9, model__width=0.25, training__batch_size=32)
    expected = needed(task, model__width=0.25, training__batch_size=32)
    assert gpu_demand([small, large, search_of(task, "classical")], OPTIONS) == GpuDemand(True, expected, 9)
    wide = search_of(task, trials=1, model__width=0.5)
    assert gpu_demand([small, wide], OPTIONS) == GpuDemand(True, None, 3)


def test_classical_models_take_no_gpu_and_do_not_count(task: Task) -> None:
    assert gpu_demand([search_of(task, "classical")], OPTIONS) == GpuDemand(False, None, 1)


def test_heads_on_embeddings_take_a_gpu_only_if_asked_to(task: Task) -> None:
    head = search_of(task, trials=1, model__name="embedding_head", model__base="cnn6", model__pretrained="weights.pt")
    assert not needs_gpu(head, OPTIONS)
    assert needs_gpu(head, replace(OPTIONS, gpus_per_trial=0.5))
    # Another space of the study decides for its own trials.
    assert gpu_demand([head, search_of(task, trials=2)], OPTIONS) == GpuDemand(True, needed(task), 2)


def test_the_memory_is_not_estimated_where_the_share_is_given_or_cannot_be(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise ValueError("this network reads no silence")

    monkeypatch.setattr(module, "memory_needed", fail)
    assert gpu_demand([search_of(task)], OPTIONS) == GpuDemand(True, None, 7)
    given = replace(OPTIONS, gpus_per_trial=0.25)
    monkeypatch.setattr(module, "memory_needed", lambda *_: pytest.fail("estimated"))
    assert gpu_demand([search_of(task)], given) == GpuDemand(True, None, 7)
