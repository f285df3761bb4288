"""The run folder as a notebook sees it: read what earlier stages made, write what this one makes.

Under the runner, files go to a staging folder and are moved in place when the stage has ended well; a notebook that is
run by hand writes them one by one, each whole or not at all. Writing returns nothing, so that no path of a machine is
shown by a cell. What the files mean is the notebooks' business.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from alneval.estimate import format_interval
from alnlib.errors import InputError
from alnlib.files import atomic_path, write_csv, write_json
from alnlib.memo import drop_older, keep_within
from alnlib.paths import resolve_data, results_folder
from alnlib.pipeline.stages import STAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alnlib.cohorts.schema import Cohort
    from alnlib.imaging.spec import CropSpec
    from alnlib.models.frozen import FrozenSpec

UNLABELED = ("sources", "cohort", "predictions")
"""Tables in any other folder carry a column `provenance`, so that a simulated number says so wherever it is copied."""


@dataclass(frozen=True)
class StudyCohort:
    """A cohort under one endpoint. patients: those whose endpoint is known, with columns `split` and the endpoint as 0/1."""

    cohort: Cohort
    endpoint: str
    patients: pd.DataFrame

    def of(self, *splits: str) -> pd.DataFrame:
        """The patients of these splits, in their order in the table."""
        return self.patients[self.patients["split"].isin(splits)].reset_index(drop=True)

    @property
    def outcome(self) -> str:
        """The endpoint's name for figures."""
        return self.cohort.endpoints[self.endpoint].label

    def predicted_by(self, predictions: pd.DataFrame) -> dict[str, str]:
        """{study: endpoint} of predictions: the first whose values are y_true, the run's own before the cohort's others.

        A study may predict another endpoint than the run's; where none fits, as with nodes that have labels of their own,
        it is the run's.
        """
        patients = self.cohort.patients.set_index("patient_id")

        def fits(endpoint: str, rows: pd.DataFrame) -> bool:
            values = patients[endpoint].reindex(rows["patient_id"]).to_numpy(dtype=float, na_value=np.nan)
            return bool((values == rows["y_true"].to_numpy()).all())

        return {
            study: next((name for name in (self.endpoint, *self.cohort.endpoints) if fits(name, rows)), self.endpoint)
            for study, rows in predictions.groupby("study", sort=False)
        }

    def __str__(self) -> str:
        counts = self.patients.groupby("split")[self.endpoint].agg(["size", "sum"])
        parts = [f"{split} {row['size']} ({row['sum']} positive)" for split, row in counts.iterrows()]
        return f"{self.cohort.title}, {self.cohort.provenance}: {self.endpoint} in {', '.join(parts)}"


class RunFolder:
    """One run's results. name: folder below results/; data: the cohort's data folder, if the notebook reads it."""

    def __init__(self, name: str, data: str | Path | None = None) -> None:
        self.name = name
        self.folder = results_folder() / name
        self.data = resolve_data(data) if data is not None else None
        self.target = Path(os.environ.get("ALN_STAGING") or self.folder)
        self._written: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"RunFolder({self.name!r})"

    # reading

    def has(self, name: str) -> bool:
        """Whether `path(name)` would find a file."""
        return (self.target / name).exists() or (self.folder / name).exists()

    def path(self, name: str) -> Path:
        """Path of a file that this stage or an earlier one made; InputError naming the stage to run if it is not there."""
        if not self.has(name):
            maker = next((stage.number for stage in STAGES if name in stage.makes), None)
            remedy = f"run it: python3 run_all.py --only {maker}" if maker else "run the stage that makes it"
            raise InputError(f"results/{self.name}/{name} is missing; {remedy}")
        return self.target / name if (self.target / name).exists() else self.folder / name

    def read_predictions(self) -> pd.DataFrame:
        """Every row of `predictions()` but those of the split "population"."""
        return self._predictions_of(population=False)

    def read_population_predictions(self) -> pd.DataFrame:
        """The rows of the split "population" alone."""
        return self._predictions_of(population=True)

    def _predictions_of(self, population: bool) -> pd.DataFrame:
        from alneval.folds import POPULATION
        from alneval.tables import read_predictions

        rows = read_predictions(self.predictions())
        return rows[rows["split"].eq(POPULATION) == population].reset_index(drop=True)

    def predictions(self) -> list[Path]:
        """The predictions files with rows that stages of the table made, in its order; InputError if no model was run."""
        declared = [self.folder / made for stage in STAGES for made in stage.predictions]
        files = [path for path in declared if path.is_file() and len(path.read_bytes().splitlines()) > 1]
        if not files:
            raise InputError(
                f"results/{self.name}/predictions holds no table; run a model: python3 run_all.py --from 21"
            )
        return files

    def checkpoints(self, limit_gb: float = 4.0) -> Path:
        """Folder in which training keeps its checkpoints between runs; git-ignored.

        Those of older code are removed, and those beyond limit_gb (10^9 bytes), oldest first: a fit that lost its checkpoint is
        only made again.
        """
        from alnlib.training.code import fit_code

        folder = self.folder / "checkpoints"
        drop_older(folder, "*.pt", fit_code())
        keep_within(folder, "*.pt", limit_gb)
        return folder

    def cropped(self, images: pd.DataFrame, spec: CropSpec, patient_ids: Sequence[str] | None = None) -> np.ndarray:
        """`alnlib.imaging.lesions.crop` of images of the data folder, kept between runs.

        A read-only array mapped from a file below crops/ (git-ignored) that is made anew whenever pixels, rows, specification or
        the code of `alnlib.imaging` changed.
        """
        from alnlib.imaging.cache import cached_crops

        return cached_crops(images, self.data, self.folder / "crops", spec, patient_ids)

    def frozen(self, crops: np.ndarray, spec: FrozenSpec, device: str = "cpu") -> np.ndarray:
        """`alnlib.models.frozen.frozen_features` (n, n_features), kept between runs beside the crops. device: "auto" too."""
        from alnlib.models.frozen import frozen_features
        from alnlib.training.fit import resolve_device

        return frozen_features(crops, spec, self.kept("frozen"), resolve_device(device))

    def kept(self, name: str) -> Path:
        """Folder below crops/ (git-ignored) in which slow steps keep what they computed between runs."""
        return self.folder / "crops" / name

    def read_table(self, name: str, **options: Any) -> pd.DataFrame:
        """A table of the run; ids and centers stay strings."""
        ids = dict.fromkeys(("patient_id", "image_id", "unit_id", "center", "reader_id"), str)
        return pd.read_csv(self.path(name), dtype=ids, **options)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def read_study(self, population: bool = False, features: bool = False) -> StudyCohort:
        """The cohort as stage 11 froze it, with the patients of the endpoint and their splits.

        population: with the patients of the split "population" too, whom no study has. Image paths count from the data
        folder; whether the images are there is looked at only if `data` was given. features: with features.csv.
        """
        from alneval.folds import attach_splits, read_splits
        from alnlib.cohorts.folder import read_cohort

        frozen = self.read_json("cohort/study.json")
        folder = self.path("cohort/cohort.yaml").parent
        cohort = read_cohort(folder, root=self.data, check_images=self.data is not None, features=features)
        cohort = cohort if population else cohort.without_population()
        splits = read_splits(self.path("cohort/splits.csv"), digest=frozen["digest"])
        return StudyCohort(cohort, frozen["endpoint"], attach_splits(cohort.known(frozen["endpoint"]), splits))

    def about(self, cohort: Cohort) -> None:
        """Say whose patients the results are of, in the stages that run before cohort/cohort.yaml is written."""
        self._described = {"title": cohort.title, "provenance": cohort.provenance}

    @cached_property
    def _described(self) -> dict[str, str]:
        return yaml.safe_load(self.path("cohort/cohort.yaml").read_text(encoding="utf-8"))

    @property
    def provenance(self) -> str:
        """ "simulated" or "real", from cohort/cohort.yaml."""
        return self._described["provenance"]

    @property
    def label(self) -> str:
        """Where the patients come from, in the words that stand under every figure."""
        title = self._described["title"]
        return title if self.provenance in title.lower() else f"{title} ({self.provenance} patients)"

    # writing

    def output(self, name: str, rows: int | None = None) -> Path:
        """Path to write a file to; its folder exists. Recorded for `written`."""
        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written = [entry for entry in self._written if entry["file"] != name] + [{"file": name, "rows": rows}]
        return path

    def save_table(self, table: pd.DataFrame, name: str) -> None:
        """Write a CSV. In a folder that is not one of UNLABELED it gets a last column `provenance`, unless it has one."""
        folder, _, _ = name.rpartition("/")
        if folder and folder not in UNLABELED and "provenance" not in table:
            table = table.assign(provenance=self.provenance)
        write_csv(table, self.output(name, len(table)))

    def save_features(self, features: pd.DataFrame, name: str) -> None:
        """Write a feature table as Parquet."""
        with atomic_path(self.output(name, len(features))) as temporary:
            features.to_parquet(temporary, index=False)

    def save_figure(self, figure: Figure, name: str, label: str = "") -> None:
        """Write figures/`name` (.png) and the same as SVG, the origin of its patients in the lower right corner.

        label: that origin, where it is not the run's patients.
        """
        from alneval.style import figure_files

        for suffix, content in figure_files(figure, label or self.label).items():
            path = self.output(f"figures/{Path(name).stem}{suffix}")
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)

    def save_json(self, value: Any, name: str) -> None:
        """Write a JSON file."""
        write_json(value, self.output(name))

    def save_numbers(self, numbers: Mapping[str, Any], stage: str) -> None:
        """Write numbers/`stage`.json: every number that prose may show, by a key that says what it is.

        numbers: {key: value}; a value is a number, a string, None, or a mapping such as {"value", "low", "high", "n"}.
        Each is stored as a mapping with `provenance` and `text`, the form in which prose shows it.
        """
        entries = {}
        for key, value in numbers.items():
            entry = dict(value) if isinstance(value, Mapping) else {"value": value}
            entry = {name: _plain(item) for name, item in entry.items()}
            entry.setdefault("text", number_text(**{k: entry.get(k) for k in ("value", "low", "high")}))
            entries[key] = {"provenance": self.provenance} | entry
        write_json(entries, self.output(f"numbers/{stage}.json", len(entries)))

    def written(self) -> pd.DataFrame:
        """Files written so far: file, rows (where it is a table), size in kB."""
        sizes = [round((self.target / entry["file"]).stat().st_size / 1000, 1) for entry in self._written]
        return pd.DataFrame(self._written, columns=["file", "rows"]).astype({"rows": "Int64"}).assign(kB=sizes)


def number_text(value: Any, low: Any = None, high: Any = None) -> str:
    """A number as prose shows it: "0.819 (0.734 to 0.903)", "370", "not available"."""
    if value is None:
        return "not available"
    if isinstance(value, (str, bool, int)):
        return str(value)
    return f"{value:.3f}" if low is None or high is None else format_interval(value, low, high)


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own, rounded to eight significant digits; NaN as None."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.8g}")
    return value
