"""Context of a trial for tests."""

from study.trial.specification import TrialContext

EPOCHS = 3
DEFAULTS = {
    "model.width": 0.03,
    "training.epochs": EPOCHS,
    "training.crop_seconds": 0.5,
    "training.batch_size": 8,
    "training.precision": "float32",
}
CONFIGURATION = {"trial": 1, "loss.name": "cross_entropy", "optimizer.lr": 1e-3}
DATASET = {"name": "d", "digest": "digest", "source_type": "local", "source": "{}", "schema": None, "profile": None}


def make_context(task, experiment, folder, study, defaults=DEFAULTS, session="one"):
    folder.mkdir(parents=True, exist_ok=True)
    return TrialContext(
        task=task,
        defaults=defaults,
        seed=0,
        threads=1,
        device="cpu",
        objective="val_noisy/uar",
        experiment=experiment,
        parent="parent",
        name="cross_entropy noisy-A",
        key={"study": study},
        tags={},
        dataset=DATASET,
        folder=folder,
        session=session,
    )
