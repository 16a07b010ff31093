"""The code of a registered model: a network that maps waveforms to class probabilities.

MLflow stores this file with the model, next to a copy of the package ``ser``, and runs it on load; nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from ser.checkpoint import Checkpoint, open_checkpoint
from ser.predict import predict_waveforms


class WaveformModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """Network that predicts waveforms; the model's metadata holds its sample rate and its class names."""

    _checkpoint: Checkpoint

    def load_context(self, context: PythonModelContext) -> None:
        """Open the checkpoint, and load the frozen network below it if there is one, without running code in them."""
        below = context.artifacts.get("below")
        self._checkpoint = open_checkpoint(Path(context.artifacts["checkpoint"]), Path(below) if below else None)

    # Without type hints: MLflow reads hints as a schema and rejects arrays.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return the class probabilities of waveforms.

        Args:
            context: Context that MLflow passes; unused.
            model_input: (N, samples) float32, mono, full scale ±1. A shorter waveform is padded with zeros by the
                caller, and the network reads the zeros as silence.
            params: Parameters that MLflow passes; unused.

        Returns:
            (N, C) float64 probabilities; each row sums to 1.
        """
        return predict_waveforms(self._checkpoint, list(np.asarray(model_input, dtype=np.float32)))


set_model(WaveformModel())
