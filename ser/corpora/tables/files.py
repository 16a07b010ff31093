"""Reading of table files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ser.utils.errors import UserError


def read_table(path: Path) -> pd.DataFrame:
    """Read a table with stripped column names; the cells of a CSV file are text."""
    if path.is_fifo():
        raise UserError(f"table {path} is a pipe. Pass a .csv or .parquet file.")
    try:
        if path.suffix.lower() == ".csv":
            # Read without a header, so that pandas neither renames a repeated column nor makes one the index.
            cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
            frame = cells.iloc[1:].reset_index(drop=True)
            frame.columns = pd.Index(cells.iloc[0])
        elif path.suffix.lower() in {".parquet", ".pq"}:
            frame = pd.read_parquet(path).reset_index(drop=True)
        else:
            raise UserError(f"table {path} is neither .csv nor .parquet. Convert it to one of these.")
    except (OSError, ValueError) as error:  # errors of pandas and pyarrow are ValueErrors
        raise UserError(f"table {path} cannot be read: {str(error).splitlines()[0]}") from error
    return frame
