"""A trained network as MLflow loads it, waveforms in, class probabilities out; logged as code, not pickled.

It needs this package where it is loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from ser.checkpoint import Checkpoint, open_checkpoint
from ser.predict import predict_waveforms


class WaveformModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """Class probabilities of waveforms; the sample rate and the class names are in the model's metadata."""

    _checkpoint: Checkpoint

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the checkpoint; no code in it is run."""
        self._checkpoint = open_checkpoint(Path(context.artifacts["checkpoint"]))

    # Without type hints, which MLflow would take for a schema and complain of.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Predicts.

        Args:
            context: MLflow's.
            model_input: (N, samples) float32, mono, full scale ±1; silence at the end of a shorter one is heard as
                silence.
            params: None are taken.

        Returns:
            (N, C) float64 probabilities; rows sum to 1.
        """
        return predict_waveforms(self._checkpoint, list(np.asarray(model_input, dtype=np.float32)))


set_model(WaveformModel())
