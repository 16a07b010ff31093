"""Damage to files, drawn by hypothesis."""

from hypothesis import strategies as st


@st.composite
def damage(draw, content: bytes, pieces_of_format: list[bytes]) -> bytes:
    """The content with bytes put in or taken out, and lines repeated, lost, swapped or cut."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["insert", "delete", "cut", "repeat", "lose", "swap"]))
        if kind == "insert":
            inserted = st.one_of(st.binary(max_size=4), st.sampled_from(pieces_of_format))
            content = content[:at] + draw(inserted) + content[at:]
        elif kind == "delete":
            content = content[:at] + content[at + draw(st.integers(1, 8)) :]
        elif kind == "cut":
            content = content[:at]
        else:
            lines = content.splitlines(keepends=True) or [b""]
            one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            if kind == "repeat":
                lines.insert(other, lines[one])
            elif kind == "lose":
                del lines[one]
            else:
                lines[one], lines[other] = lines[other], lines[one]
            content = b"".join(lines)
    return content
