"""Options of the analysis commands, apart from what the commands do: ``--help`` imports nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from study.schema import REPORT_PAGE

Audio = Literal["if-allowed", "always", "never"]


@dataclass(frozen=True)
class RecordsOptions:
    """Options that all analyses have."""

    tracking_uri: str | None = None
    """MLflow tracking URI; default: MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""
    experiment: str | None = None
    """MLflow experiment; default: MLFLOW_EXPERIMENT_NAME, else the one that holds --study, or the newest trial."""
    study: str | None = None
    """Name of a search or a confirmation, shown with what matches it; default: what matches the newest trial."""
    arithmetic: str | None = None
    """Arithmetic of the trials, such as "cuda bfloat16", or any; default: that of the newest trial of each stage."""
    output: Path = Path("results")
    """Folder of the tables and figures."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Return the trials that are named by their MLflow run ids; none by default."""
        return ()


@dataclass(frozen=True)
class BestRunsOptions(RecordsOptions):
    """Show the best finished runs per noise level and search space, and the test scores of their confirmation."""

    output: Path = Path("results") / "best_runs"
    """Folder of the tables and the figure."""
    top: int = 1
    """Runs per noise level and space."""


@dataclass(frozen=True)
class SignificanceOptions(RecordsOptions):
    """Compare the confirmed methods of an experiment with a reference, per noise level."""

    output: Path = Path("results") / "significance"
    """Folder of the tables and figures."""
    reference: str | None = None
    """Search space that the others are compared with; default: the one that the design declares, else cross_entropy."""


@dataclass(frozen=True)
class DoseResponseOptions(RecordsOptions):
    """Show the test UAR of each confirmed method over the noise levels, and from which level a method pays."""

    output: Path = Path("results") / "dose_response"
    """Folder of the table and the figure."""
    reference: str | None = None
    """Search space that the others are compared with; default: the one that the design declares, else cross_entropy."""


@dataclass(frozen=True)
class AcrossCorporaOptions(RecordsOptions):
    """Show the confirmed trainings of one corpus on its own test speakers and on other corpora."""

    output: Path = Path("results") / "across_corpora"
    """Folder of the tables and the figure."""
    also: tuple[str, ...] = ()
    """Further experiments of the store, whose newest confirmation with test corpora gives further rows."""


@dataclass(frozen=True)
class CurvesOptions(RecordsOptions):
    """Show how training went, epoch by epoch."""

    run: tuple[str, ...] = ()
    """MLflow run ids of trials of one experiment; default: the confirmed representatives, else the best trials."""
    output: Path = Path("results") / "curves"
    """Folder of the tables and figures."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Return the trials that ``--run`` names."""
        return self.run


@dataclass(frozen=True)
class ImportanceOptions(RecordsOptions):
    """Show which searched parameters mattered, and how many trials were enough."""

    space: tuple[str, ...] = ()
    """Spaces whose slices, contours and parallel coordinates are drawn; default: the best one of each noise level."""
    output: Path = Path("results") / "importance"
    """Folder of the tables and figures."""


@dataclass(frozen=True)
class SelectionOptions(RecordsOptions):
    """Show the cost of selection by noisy labels, and how a choice does at another noise level."""

    output: Path = Path("results") / "selection"
    """Folder of the tables and figures."""


@dataclass(frozen=True)
class ConfusionOptions(RecordsOptions):
    """Show which emotions are confused, by noise level, method, gender and annotator agreement."""

    reference: str | None = None
    """Search space that others are compared with; default: cross_entropy if it was searched."""
    output: Path = Path("results") / "confusion"
    """Folder of the tables and figures."""


@dataclass(frozen=True)
class EmbeddingsOptions(RecordsOptions):
    """Draw embeddings of validation or test utterances, coloured by emotion and gender."""

    noise: tuple[str, ...] = ()
    """Noise levels; default: the one with the most wrong labels."""
    reference: str | None = None
    """Search space that is drawn next to the best other one; default: cross_entropy if it was searched."""
    output: Path = Path("results") / "embeddings"
    """Folder of the table and figures."""


@dataclass(frozen=True)
class CorrectionsOptions(RecordsOptions):
    """Show which labels the methods have corrected, and which labels look wrong."""

    run: str | None = None
    """MLflow run id of one trial; default: the representative of each noise level and space."""
    audio: Audio = "if-allowed"
    """Audio of the most suspicious labels: if the corpus's licence permits redistribution; always; or never."""
    output: Path = Path("results") / "corrections"
    """Folder of the tables, the figures and the audio."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Return the trial that ``--run`` names."""
        return () if self.run is None else (self.run,)


@dataclass(frozen=True)
class ReportOptions(RecordsOptions):
    """Write all results of an experiment as one HTML page, with its figures and tables as files."""

    output: Path = REPORT_PAGE.parent
    """Folder of report.html, with one folder per section for its figures and tables."""
    reference: str | None = None
    """Search space that the others are compared with; default: the one that the design declares, else cross_entropy."""
    audio: Audio = "if-allowed"
    """Audio of suspicious labels: if the corpus's licence permits redistribution; always, for private use; never."""
    to_mlflow: bool = False
    """Copy the page and the figures into MLflow too, as artifacts of a run named report."""


OPTIONS: Mapping[str, type[RecordsOptions]] = {
    "best_runs": BestRunsOptions,
    "significance": SignificanceOptions,
    "dose_response": DoseResponseOptions,
    "across_corpora": AcrossCorporaOptions,
    "curves": CurvesOptions,
    "importance": ImportanceOptions,
    "selection": SelectionOptions,
    "confusion": ConfusionOptions,
    "embeddings": EmbeddingsOptions,
    "corrections": CorrectionsOptions,
}
"""Section with a command of its own → options of the command."""
