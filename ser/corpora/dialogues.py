"""Sessions of speakers who share recordings, for corpora that name no sessions."""

from __future__ import annotations

import pandas as pd


def sessions_of_recordings(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Put speakers who are cut from one recording into one session, so that they are held out together.

    Recordings of several speakers would be in training and in test otherwise. Nothing changes where a row has a
    session, or where no recording has cuts of several speakers.

    Args:
        rows: As ``LoaderResult.rows``.

    Returns:
        The rows, with sessions that are called after their first speaker, and a note; or the same rows and no note.

    Example:
        >>> rows = pd.DataFrame({"path": ["1", "1", "2", "2", "3"], "speaker": ["a", "b", "c", "a", "d"], "end": 1.0})
        >>> rows, notes = sessions_of_recordings(rows)
        >>> list(rows["session"]), notes
        (['a', 'a', 'a', 'a', 'd'], ('recordings of several speakers: 2; speakers who share one are one session',))
    """
    has_sessions = "session" in rows and (rows["session"] != "").any()
    if has_sessions or not {"path", "speaker"} <= set(rows) or not rows["path"].duplicated().any():
        return rows, ()
    is_cut = rows[[time for time in ("start", "end") if time in rows]].notna().any(axis=1)
    cuts = rows[is_cut & (rows["path"] != "")]
    speakers = cuts.groupby("path", sort=True)["speaker"].unique()
    shared = [sorted(map(str, names)) for names in speakers if len(names) > 1]
    if not shared:
        return rows, ()
    session = {name: name for name in sorted(set(map(str, rows["speaker"])))}
    for first, *others in shared:
        old = {session[name] for name in (first, *others)}
        session |= {name: min(old) for name, own in session.items() if own in old}
    note = f"recordings of several speakers: {len(shared)}; speakers who share one are one session"
    return rows.assign(session=rows["speaker"].map(str).map(session)), (note,)
