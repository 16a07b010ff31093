import numpy as np
import pytest

from ser.noise import check_level, corrupt, corrupt_level
from ser.utils.errors import UserError
from tests.helpers.tiny_corpora import corpus_of, flips


def matrix_file(tmp_path, text):
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    return f"matrix:{tmp_path / 'm.csv'}"


def test_a_matrix_gives_its_classes_and_its_rates(tmp_path):
    # Counts in another order than the corpus's; happy is never mislabelled.
    recipe = matrix_file(tmp_path, ",sad,happy,angry\nangry,3,1,12\nhappy,0,9,0\nsad,50,0,50\n")
    corpus = corpus_of(["angry"] * 4000 + ["happy"] * 4000 + ["sad"] * 4000, ("angry", "happy", "sad"))
    noisy = corrupt(corpus, recipe, 0.05, 0)
    rates = noisy.manifest["rate_by_class"]
    assert rates["happy"] == 0
    assert rates["sad"] / rates["angry"] == pytest.approx(2, rel=0.3)  # 50 % against 25 %
    drawn = [label for row, label in flips(noisy).items() if row < 4000]
    assert drawn.count("sad") / len(drawn) == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / len(drawn)))
    assert set(flips(noisy).values()) == {"angry", "sad", "happy"}
    assert "m.csv, digest " in noisy.manifest["note"]
    with pytest.raises(UserError, match=r"most possible is matrix:.*:0\.6666"):
        corrupt(corpus, recipe, 0.7, 0)
    assert corrupt_level(corpus, f"{recipe}:0.05", 0).manifest == noisy.manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file has none"),
        (",angry,sad\n", "the file has none"),
        (",angry,sad\nangry,1\nsad,0,1\n", "angry: expected 2 non-negative rates"),
        (",angry,sad\nangry,1,-1\nsad,0,1\n", "angry: expected 2 non-negative rates"),
        (",angry,sad\nangry,1,nan\nsad,0,0\n", "(?s)angry: expected 2.*sad: expected 2"),
        (",angry,sad\nangry,1,0\nangry,1,0\n", "angry: row appears more than once"),
        (",angry,angry\nangry,1,0\nsad,1,0\n", "angry: column appears more than once"),
        (",angry,sad\nangry,1,much\nsad,1,0\n", "angry: expected 2"),
        (",angry,joy\nangry,1,0\njoy,1,0\n", "(?s)sad: no row.*sad: no column.*joy: is not a class of the corpus"),
    ],
)
def test_a_file_that_is_not_a_matrix_of_the_classes_is_an_error(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        corrupt(corpus_of(["sad", "angry"], ("angry", "sad")), matrix_file(tmp_path, text), 0.5, 0)


def test_a_matrix_that_is_missing_or_binary_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        check_level(f"matrix:{tmp_path}/none.csv:0.3")
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        check_level(f"matrix:{tmp_path}/m.csv:0.3")
