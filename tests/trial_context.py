"""A trial's context for tests, with records in an SQLite store."""

from mlflow.entities import Dataset

from study.trainable import TrialContext

EPOCHS = 3
BASE = {
    "model.width": 0.03,
    "training.epochs": EPOCHS,
    "training.crop_seconds": 0.5,
    "training.batch_size": 8,
    "training.precision": "float32",
}
CONFIGURATION = {"trial": 1, "loss.name": "cross_entropy", "optimizer.lr": 1e-3}


def make_context(task, uri, experiment, folder, study, base=BASE, session="one"):
    folder.mkdir(parents=True, exist_ok=True)
    return TrialContext(
        task=task,
        base=base,
        seed=0,
        threads=1,
        device="cpu",
        objective="val_noisy/uar",
        tracking_uri=uri,
        experiment=experiment,
        parent="parent",
        name="cross_entropy noisy-A",
        key={"study": study},
        tags={},
        dataset=Dataset("d", "digest", "local", "{}"),
        folder=folder,
        session=session,
    )
