"""Embeddings in the plane: neighbours known by hand, and what is missing."""

import re

import numpy as np
import pytest

from analysis.common.style import save
from analysis.sections.embeddings import section as embeddings
from analysis.sections.embeddings.figures import draw_embeddings
from analysis.sections.embeddings.projection import neighbour_agreement, perplexity_of, tsne
from ser.checkpoint import open_checkpoint
from ser.config import Config
from ser.features.store import FeatureStore
from ser.training import save_state, train
from ser.training.batches import crop_frames
from ser.training.task import Task
from ser.utils.errors import UserError


def test_the_neighbours_of_two_bundles_are_known():
    # Two bundles of three directions; lengths do not count.
    angles = np.array([0.0, 0.01, 0.02, 1.5, 1.51, 1.52])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]) * np.array([1, 50, 2, 1, 3, 40])[:, None]
    names = {"bundle": list("aaabbb"), "other": list("ababab"), "same": ["x"] * 6}
    found = neighbour_agreement(vectors, names, neighbours=2).set_index("attribute")
    assert found.loc["bundle"].tolist() == [1, pytest.approx(0.4)]  # two of the five others
    assert found.loc["same"].tolist() == [1, 1]
    # Within a bundle a b a: 1/2, 0, 1/2, and the same for b a b.
    assert found.loc["other", "same"] == pytest.approx(1 / 3)


def test_all_others_are_neighbours_where_there_are_few():
    found = neighbour_agreement(np.eye(3), {"name": list("aab")}, neighbours=10)
    assert found[["same", "chance"]].iloc[0].tolist() == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize(("count", "expected"), [(4, 1), (31, 10), (100, 30), (3000, 30), (5000, 50)])
def test_perplexity_follows_the_number_of_points(count, expected):
    assert perplexity_of(count) == expected


def test_what_is_apart_stays_apart_and_the_points_are_the_same_each_time():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 1, (20, 8)), rng.normal(30, 1, (20, 8))])
    points = tsne(vectors)
    assert points.shape == (40, 2)
    np.testing.assert_array_equal(points, tsne(vectors))
    assert (
        neighbour_agreement(points - points.mean(axis=0), {"half": ["a"] * 20 + ["b"] * 20}, 5)["same"].iloc[0] > 0.95
    )


def test_each_name_has_a_colour_and_a_marker_of_its_own():
    names = [f"class {number:02d}" for number in range(12)]
    figure = draw_embeddings({"net": (np.random.default_rng(0).normal(size=(12, 2)), {"emotion": names})})
    drawn = [
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in figure.axes[0].collections
    ]
    assert len(set(drawn)) == 12


@pytest.mark.parametrize(("count", "are_pixels"), [(60, False), (2000, True)])
def test_many_points_are_pixels_in_a_small_file_whose_text_is_text(count, are_pixels, tmp_path):
    names = [f"class {number % 6}" for number in range(count)]
    figure = draw_embeddings({"net": (np.random.default_rng(0).normal(size=(count, 2)), {"emotion": names})})
    save(figure, tmp_path / "drawn.svg")
    drawn = (tmp_path / "drawn.svg").read_text()
    assert ("<image" in drawn) == are_pixels
    assert len(drawn) < 400_000
    assert "class 5</text>" in drawn


def test_a_checkpoint_embeds_what_its_head_reads(task_at, store: FeatureStore, tmp_path):
    settings = {"model.width": 0.03, "training.epochs": 1, "training.crop_seconds": 0.5, "training.batch_size": 8}
    task: Task = task_at()
    *_, record = train(Config.from_dotted(settings | {"training.precision": "float32"}), task, seed=0)
    save_state(record.state, tmp_path / "state.pt")
    checkpoint = open_checkpoint(tmp_path / "state.pt")
    # Utterances of one segment: the mean over segments is the segment's.
    lengths = store.lengths
    rows = np.flatnonzero(lengths < 1.5 * crop_frames(0.5, store.front_end))
    vectors = checkpoint.embed(store, rows)
    assert vectors.shape == (len(rows), checkpoint.model.embedding_size)
    head = checkpoint.model.head
    logits = vectors @ head.weight.detach().cpu().numpy().T + head.bias.detach().cpu().numpy()
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), checkpoint.predict(store, rows), atol=1e-5)


@pytest.fixture(scope="module")
def searched(new_made_store):
    store = new_made_store()
    store.search(
        {("cross_entropy", "clean"): [0.5], ("cross_entropy", "noisy-B"): [0.5], ("proselflc", "noisy-B"): [0.6]}
    )
    return store.records()


def test_networks_that_are_not_on_this_machine_are_reported(searched):
    found = embeddings.section(searched, embeddings.Options())
    assert not found.tables
    assert not found.figures
    (missing,) = [line for line in found.missing if line.startswith("No embeddings of")]
    assert missing.startswith("No embeddings of cross entropy and ProSelfLC at noisy-B: run")
    assert "does not exist here" in missing
    assert not found.notes


def test_embeddings_are_reported_and_drawn(searched, monkeypatch):
    def known(records, method, subset):
        rng = np.random.default_rng(0)
        genders = ["female", "male"] * 15
        about = {"emotion": list("abc") * 10, "gender": genders, "speaker": genders}
        return embeddings.Embedded(rng.normal(size=(30, 5)), about, of=90)

    monkeypatch.setattr(embeddings, "embed", known)
    found = embeddings.section(searched, embeddings.Options())
    (table,) = found.tables
    assert table.data["space"].unique().tolist() == ["cross_entropy", "proselflc"]
    assert table.text["method"].tolist() == ["cross entropy", "ProSelfLC"]
    assert set(table.text["utterances"]) == {"30 of 90"}
    assert re.fullmatch(r"\d+% \(chance 31%\)", table.text["same emotion"][0])  # 9 of the 29 others
    (figure,) = found.figures
    assert figure.name == "embeddings-noisy-B"
    assert "30 utterances of the validation subset, perplexity 10" in figure.caption
    assert re.match(r"cross entropy: of the 10 points nearest to a point, \d+% have its emotion", figure.alternative)
    assert figure.figure.axes[0].get_xlabel() == "t-SNE, first dimension (no unit)"
    assert figure.figure.axes[-2].get_legend().get_title().get_text() == "emotion"
    assert len(embeddings.section(searched, embeddings.Options(noise=("clean", "noisy-B"))).figures) == 2
    with pytest.raises(UserError, match="Did you mean 'noisy-B'"):
        embeddings.section(searched, embeddings.Options(noise=("noisy-b",)))
