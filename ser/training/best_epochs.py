"""The best epochs of a run so far: by true validation labels (an oracle), and by noisy ones (an honest early stop)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser.training.evaluation import test_metrics
from ser.training.task import Subset


class BestEpochs:
    """Best epochs so far, the first one on ties, and the scores that a test subset has at them.

    ``best/*`` and ``test/best/*`` are of the epoch with the highest validation UAR against true labels. They are an
    oracle: nobody who trains on noisy labels can stop there. ``stopped/*`` and ``test/stopped/*`` are of the epoch with
    the highest validation UAR against noisy labels, which an early stop can choose.

    Args:
        test: Test subset, or None.
    """

    def __init__(self, test: Subset | None) -> None:
        self._test = test
        self._best = {"best/val_uar": -1.0, "best/epoch": 0.0}
        # None in a run that was begun by an older version, whose earlier noisy scores are not known.
        self._stopped: dict[str, float] | None = {"stopped/val_noisy_uar": -1.0, "stopped/epoch": 0.0}
        self.stopped_labels: NDArray[np.int64] | None = None
        """(k,) class predicted for each test utterance at the honest early stop; None if it is not known."""
        self.tested: NDArray[np.float64] | None = None
        """(k, C) newest predictions for the test utterances; those of the last epoch once it is done."""

    def update(
        self,
        epoch: int,
        validation: Mapping[str, float],
        predict_test: Callable[[Subset], NDArray[np.float64]],
        *,
        finished: bool,
    ) -> dict[str, float]:
        """Compare an epoch with the best ones so far.

        Args:
            epoch: Number of the epoch, from 1.
            validation: Its ``val_noisy/uar`` and, where true labels are known, ``val/uar``.
            predict_test: Predicts the test subset, (k, C). It is called at most once, if the epoch is the best so far
                or the last.
            finished: Whether this is the last epoch.

        Returns:
            ``stopped/*`` and, where true labels are known, ``best/*`` and ``last/val_uar``. After the last epoch also
            ``test/stopped/*``, ``test/best/*`` and ``test/last/*``, where there is a test subset.
        """
        noisy, true = validation["val_noisy/uar"], validation.get("val/uar")
        stop = self._stopped is not None and noisy > self._stopped["stopped/val_noisy_uar"]
        best = true is not None and true > self._best["best/val_uar"]
        if self._test is not None and (stop or best or finished):
            self.tested = predict_test(self._test)
        if stop:
            self._stopped = {"stopped/val_noisy_uar": noisy, "stopped/epoch": float(epoch)}
            self._stopped |= self._test_scores("test/stopped")
            self.stopped_labels = None if self.tested is None else self.tested.argmax(axis=1)
        if true is not None and best:
            self._best = {"best/val_uar": true, "best/epoch": float(epoch)} | self._test_scores("test/best")
        metrics = dict(self._stopped or {})
        if true is not None:
            metrics |= {**self._best, "last/val_uar": true}
        if finished:
            return metrics | self._test_scores("test/last")
        return {name: value for name, value in metrics.items() if not name.startswith("test/")}

    def _test_scores(self, prefix: str) -> dict[str, float]:
        """Return the scores of the newest test predictions; empty without a test subset."""
        if self._test is None or self.tested is None:
            return {}
        return test_metrics(prefix, self.tested, self._test)

    def state_dict(self) -> dict[str, Any]:
        """Return the entries of a run's state: ``best`` and, unless an older version began the run, ``stopped``."""
        state: dict[str, Any] = {"best": self._best}
        if self._stopped is not None:
            labels = None if self.stopped_labels is None else torch.from_numpy(self.stopped_labels)
            state["stopped"] = {"metrics": self._stopped, "labels": labels}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the entries of a run's state.

        A state of an older version has no ``stopped``. Earlier scores and predictions cannot be computed again, so
        such a run records no honest early stop.
        """
        self._best = dict(state["best"])
        stopped = state.get("stopped")
        self._stopped = dict(stopped["metrics"]) if stopped else None
        labels = stopped["labels"] if stopped else None
        self.stopped_labels = None if labels is None else labels.numpy().copy()
