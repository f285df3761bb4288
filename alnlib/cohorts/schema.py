"""What a cohort is: its dataclasses, its column names, and the pandera schemas of its tables.

Reading and writing a cohort folder lives in `alnlib.cohorts.folder`; the public sources have a module each.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alneval.folds import GIVEN_SPLITS, POPULATION
from alnlib.errors import Problem

PROVENANCES = ("real", "simulated")
VARIABLE_KINDS = ("continuous", "ordinal", "nominal")
MODALITIES = ("US", "USV", "MRI", "CT", "MG")
MODALITY_WORDS = {
    "US": "ultrasound stills",
    "USV": "ultrasound sweeps",
    "MRI": "MRI",
    "CT": "CT of nodes",
    "MG": "mammograms",
}
"""What images of a modality are called; of another one they are called by its code."""
TIMEPOINTS = ("pre", "post")
LATERALITIES = ("L", "R")
WHAT_IS_READ = {"US": "ultrasound", "USV": "ultrasound", "MRI": "MRI", "CT": "CT", "MG": "mammography"}
"""What readers of a modality are called together; of another one they are called by its code."""


PATIENT_ID_COLUMNS = ("patient_id", "center")
IMAGE_REQUIRED_COLUMNS = ("image_id", "patient_id", "modality", "path")
IMAGE_COLUMNS = ("image_id", "patient_id", "modality", "timepoint", "sequence_or_view", "laterality", "path")
IMAGE_COLUMNS += ("mask_path", "box", "pixel_spacing_mm", "unit_label")
RARE_IMAGE_COLUMNS = ("frame", "mask_label")
"""Of images.csv, written only where some image needs them: which frame, page or time point of its file is meant, from 0, and
which value in the mask is the lesion."""
IMAGE_COLUMNS += RARE_IMAGE_COLUMNS
READER_COLUMNS = ("patient_id", "reader_id", "score")
FEATURE_COLUMNS = ("patient_id", "timepoint", "modality", "sequence_or_view")
"""Of features.csv, before one column per feature."""

MEANT = {
    "modality": {
        **dict.fromkeys(("ultrasound", "sonography", "b-mode", "us image"), "US"),
        **dict.fromkeys(("ultrasound video", "video", "cine", "clip", "sweep"), "USV"),
        **dict.fromkeys(("mr", "magnetic resonance", "dce", "dce-mri"), "MRI"),
        **dict.fromkeys(("computed tomography", "cect"), "CT"),
        "mammography": "MG",
        "mammogram": "MG",
        "mammo": "MG",
    },
    "timepoint": {"before": "pre", "baseline": "pre", "after": "post", "follow-up": "post"},
    "laterality": {"left": "L", "right": "R"},
    "kind": {"numeric": "continuous", "number": "continuous", "categorical": "nominal", "binary": "nominal"},
    "provenance": {"synthetic": "simulated", "virtual": "simulated"},
    "label": {"yes": "1", "true": "1", "no": "0", "false": "0"},
}
"""Words that people write for a code, by what is coded."""


@dataclass(frozen=True)
class Endpoint:
    """A binary endpoint: its name for readers, and what 1 (`positive`) and 0 (`negative`) mean."""

    label: str
    positive: str
    negative: str


@dataclass(frozen=True)
class ClinicalVariable:
    """A clinical predictor known before axillary surgery.

    kind: "continuous" (numbers, in `unit`), "ordinal" or "nominal" (readable level names; `levels` in order, first = reference).
    range: lowest and highest plausible value of a continuous one; at_most: another one that it cannot exceed. Values beyond
    are warned of (`alnlib.cohorts.plausible`).
    """

    label: str
    kind: str
    unit: str | None = None
    levels: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    at_most: str | None = None


@dataclass(frozen=True)
class Cohort:
    """Patients, their endpoints and clinical variables, their images and what readers said of them.

    patients: one row per patient: patient_id, center, optional split, endpoints (Int64: 0, 1 or <NA>), clinical variables
    (float64, or str level names; missing is NaN). images: `IMAGE_COLUMNS`, one row per image. readers: `READER_COLUMNS`.
    features: `FEATURE_COLUMNS`, then float64 features that were measured elsewhere, one row per patient, visit and sequence.
    centers: first = primary. readers_described: {reader: description}; reader_modality: {reader: one of MODALITIES}, of those
    for whom it is known. root: the folder that `path` and `mask_path` are relative to. warnings: what is readable and hardly
    true.
    """

    name: str
    title: str
    provenance: str
    endpoints: dict[str, Endpoint]
    primary_endpoint: str
    centers: tuple[str, ...]
    external_centers: tuple[str, ...]
    clinical: dict[str, ClinicalVariable]
    readers_described: dict[str, str]
    license: str
    citation: str
    source: str
    patients: pd.DataFrame
    images: pd.DataFrame
    readers: pd.DataFrame
    root: Path
    reader_modality: dict[str, str] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    features: pd.DataFrame = field(default_factory=lambda: empty_features())

    @property
    def is_simulated(self) -> bool:
        """Whether the patients are simulated; figures and tables from them must say so."""
        return self.provenance == "simulated"

    def known(self, endpoint: str | None = None) -> pd.DataFrame:
        """Patients whose `endpoint` (default: the primary one) is known, with the endpoint as int64 0/1."""
        endpoint = endpoint or self.primary_endpoint
        if endpoint not in self.endpoints:
            raise ValueError(f"unknown endpoint {endpoint!r}; this cohort has {', '.join(self.endpoints)}")
        eligible = self.patients[self.patients[endpoint].notna()].reset_index(drop=True)
        return eligible.assign(**{endpoint: eligible[endpoint].astype(np.int64)})

    def reader_groups(self) -> dict[str, list[str]]:
        """{what they read: ids of the readers with scores}, in the order in which cohort.yaml describes them.

        By `reader_modality`, readers of stills and sweeps together; without one they are "unspecified".
        """
        groups: dict[str, list[str]] = {}
        for reader in (name for name in self.readers_described if name in set(self.readers["reader_id"])):
            modality = self.reader_modality.get(reader, "unspecified")
            groups.setdefault(WHAT_IS_READ.get(modality, modality), []).append(reader)
        return groups

    def feature_table(self) -> pd.DataFrame:
        """The features, one row per patient_id (the index): columns `<modality>_<visit>_<sequence>__<feature>`, of every visit
        and sequence those that it has."""
        wide = {
            f"{modality}_{visit}_{sequence}__": rows.set_index("patient_id").drop(columns=list(FEATURE_COLUMNS[1:]))
            for (modality, visit, sequence), rows in self.features.groupby(
                ["modality", "timepoint", "sequence_or_view"], sort=False
            )
        }
        parts = [rows.dropna(axis="columns", how="all").add_prefix(name) for name, rows in wide.items()]
        return pd.concat(parts, axis="columns") if parts else pd.DataFrame(index=pd.Index([], name="patient_id"))

    def without_population(self) -> Cohort:
        """The same without patients of the split "population", their images, reads and features."""
        if "split" not in self.patients:
            return self
        outside = set(self.patients.loc[self.patients["split"] == POPULATION, "patient_id"])
        tables = {name: getattr(self, name) for name in ("patients", "images", "readers", "features")}
        kept = {name: rows[~rows["patient_id"].isin(outside)] for name, rows in tables.items()}
        return replace(self, **{name: rows.reset_index(drop=True) for name, rows in kept.items()})

    def __repr__(self) -> str:
        labels = self.patients[list(self.endpoints)]
        counts = [f"{name} {(known == 1).sum()}/{known.count()} positive" for name, known in labels.items()]
        return (
            f"{self.name} ({self.provenance}): {len(self.patients)} patients, {len(self.images)} images, "
            f"{len(self.readers)} reader scores; {'; '.join(counts)}"
        )


def images_table(columns: dict[str, object]) -> pd.DataFrame:
    """An images table of these columns (none: one without rows), the others missing, typed as in `Cohort`."""
    texts = pd.DataFrame(columns).reindex(columns=list(IMAGE_COLUMNS))
    return texts.astype("str").where(texts.notna()).astype({"unit_label": "Int64"}).reset_index(drop=True)


def empty_readers() -> pd.DataFrame:
    """A readers table without rows."""
    return pd.DataFrame({column: pd.Series(dtype="str") for column in READER_COLUMNS}).astype({"score": "float64"})


def empty_features() -> pd.DataFrame:
    """A features table without rows."""
    return pd.DataFrame({column: pd.Series(dtype="str") for column in FEATURE_COLUMNS})


def parse_box(text: object) -> tuple[int, ...] | None:
    """Half-open pixel box as integers: (row0, col0, row1, col1) or (z0, row0, col0, z1, row1, col1); None where empty.

    Raises ValueError if it does not hold 4 or 6 whole non-negative numbers, or if a lower edge is not below its upper edge.
    """
    if pd.isna(text) or not str(text).strip():
        return None
    parts = str(text).split()
    if len(parts) not in (4, 6) or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"box {text!r} is not 4 or 6 whole numbers separated by spaces")
    edges = tuple(int(part) for part in parts)
    half = len(edges) // 2
    if any(low >= high for low, high in zip(edges[:half], edges[half:], strict=True)):
        raise ValueError(f"box {text!r} is inverted or empty: each lower edge must be below its upper edge")
    return edges


def format_box(edges: tuple[int, ...]) -> str:
    """The text form of a box, as `parse_box` reads it."""
    text = " ".join(str(int(edge)) for edge in edges)
    parse_box(text)
    return text


def parse_pixel_spacing(text: object) -> tuple[float, float] | None:
    """Pixel spacing (row, col) in mm; None where empty. Raises ValueError if it is not two positive numbers."""
    if pd.isna(text) or not str(text).strip():
        return None
    try:
        spacing = tuple(float(part) for part in str(text).split())
    except ValueError:
        spacing = ()
    if len(spacing) != 2 or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"pixel spacing {text!r} is not two positive numbers in mm, row then column")
    return spacing


def parse_whole(text: object) -> int | None:
    """A whole number from 0, as of a frame or a label; None where empty. Raises ValueError for anything else."""
    if text is None or pd.isna(text) or not str(text).strip():
        return None
    written = re.fullmatch(r"(\d+)(\.0*)?", str(text).strip())
    if written is None:
        raise ValueError(f"{text!r} is not a whole number from 0")
    return int(written[1])


def mask_files(cell: str) -> tuple[str, ...]:
    """The files that a cell of mask_path names, separated by semicolons: masks of one image are united."""
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def patients_schema(endpoints: dict[str, Endpoint], clinical: dict[str, ClinicalVariable], centers: tuple[str, ...]):
    """pandera schema of patients.csv as text (every cell a string, "" where empty), lazily validated by `alnlib.cohorts.folder`.

    Each check carries what is wrong as its title and the remedy as its description.
    """
    known_center = f"use one of {', '.join(centers)}, or add it to centers or external_centers in cohort.yaml"
    center = [_not_empty("center", "name the center of every patient, also when there is only one")]
    if centers:
        center.append(_one_of("unknown center", (*centers, ""), known_center))
    splits = f"use one of {', '.join(GIVEN_SPLITS)}, or remove the column"
    label = 'write 1 (positive), 0 (negative), or leave the cell empty where it is unknown (not "NA")'
    words = {
        column: MEANT["label"] | {endpoint.negative.casefold(): "0", endpoint.positive.casefold(): "1"}
        for column, endpoint in endpoints.items()
    }
    return _schema(
        {"patient_id": _not_empty("patient_id", "give every patient an id"), "center": center},
        {"split": _one_of("unknown split", (*GIVEN_SPLITS, ""), splits)}
        | {column: _cell_check(is_label, _NO_LABEL, label, meant=words[column]) for column in endpoints}
        | {column: _variable_check(variable) for column, variable in clinical.items()},
    )


def images_schema(patient_ids: frozenset[str]):
    """pandera schema of images.csv as text; file checks need the folder and live in `alnlib.cohorts.folder`."""
    box = (
        'write "row0 col0 row1 col1" (or "z0 row0 col0 z1 row1 col1") in whole pixels, lower edges first, '
        "upper edges exclusive"
    )
    spacing = 'write two positive numbers in mm, "row col", or leave it empty to use the file\'s own'
    return _schema(
        {
            "image_id": _not_empty("image_id", "give every image an id of its own"),
            "patient_id": _known_patient(patient_ids),
            "modality": _one_of(
                "unknown modality", MODALITIES, f"use one of {', '.join(MODALITIES)}", MEANT["modality"]
            ),
            "path": _not_empty("path", "give the image's path relative to the cohort folder"),
        },
        {
            "timepoint": _one_of(
                "unknown timepoint", (*TIMEPOINTS, ""), "use pre, post or leave it empty", MEANT["timepoint"]
            ),
            "laterality": _one_of(
                "unknown laterality", (*LATERALITIES, ""), "use L, R or leave it empty", MEANT["laterality"]
            ),
            "box": _cell_check(_parses(parse_box), "malformed or inverted box", box),
            "pixel_spacing_mm": _cell_check(_parses(parse_pixel_spacing), "malformed pixel spacing", spacing),
            "unit_label": _cell_check(is_label, _NO_LABEL, "write 0, 1 or leave it empty", meant=MEANT["label"]),
            "frame": _cell_check(
                _parses(parse_whole), "not a whole number", "write the frame's number, 0 is the first"
            ),
            "mask_label": _cell_check(
                _parses(parse_whole), "not a whole number", "write the lesion's value in the mask"
            ),
        },
    )


def features_schema(patient_ids: frozenset[str]):
    """pandera schema of what stands before the features in features.csv, as text."""
    visit = (
        "use pre, post, or for a visit between them a word of small letters and digits, such as week3, but not delta"
    )
    sequence = "use letters, digits and single underscores, such as DCE_early"
    return _schema(
        {
            "patient_id": _known_patient(patient_ids),
            "modality": _one_of(
                "unknown modality", MODALITIES, f"use one of {', '.join(MODALITIES)}", MEANT["modality"]
            ),
        },
        {
            "timepoint": _cell_check(_is_visit, "unknown timepoint", visit, meant=MEANT["timepoint"]),
            "sequence_or_view": _cell_check(_is_sequence, "malformed sequence or view", sequence),
        },
    )


def _is_visit(text: str) -> bool:
    return re.fullmatch("(?!delta$)[a-z0-9]*", text) is not None and text not in MEANT["timepoint"]


def _is_sequence(text: str) -> bool:
    return re.fullmatch("([A-Za-z0-9]+_?)*", text) is not None


def readers_schema(patient_ids: frozenset[str], reader_ids: tuple[str, ...]):
    """pandera schema of readers.csv as text."""
    reader = f"describe it under readers (described now: {', '.join(reader_ids) or 'none'})"
    score = "write a number with a decimal point, higher = more suspicious; remove the row where the reader gave none"
    return _schema(
        {
            "patient_id": _known_patient(patient_ids),
            "reader_id": _one_of("reader is not described in cohort.yaml", reader_ids, reader),
            "score": _cell_check(lambda text: text != "" and is_number(text), "reader score is not a number", score),
        }
    )


_NO_LABEL = "label is not 0, 1 or empty"


def _schema(required: dict, optional: dict | None = None):
    """Columns of text, each with its check or checks."""
    import pandera.pandas as pa  # half a second that a command without validation need not pay

    columns = {name: pa.Column(str, checks) for name, checks in required.items()}
    columns |= {name: pa.Column(str, checks, required=False) for name, checks in (optional or {}).items()}
    return pa.DataFrameSchema(columns, strict=False)


def is_label(text: str) -> bool:
    """Whether a cell is a 0/1 label or empty; "1.0", as a table program may write it, counts as 1."""
    return text in ("", "0", "1", "0.0", "1.0")


def is_number(text: str) -> bool:
    """Whether a cell is a finite decimal number or empty; "nan", "inf" and decimal commas are not."""
    if text == "":
        return True
    try:
        return bool(np.isfinite(float(text))) and "_" not in text
    except ValueError:
        return False


def _variable_check(variable: ClinicalVariable):
    if variable.kind == "continuous":
        remedy = (
            'write a number with a decimal point and no unit, or leave the cell empty where it is missing (not "NA")'
        )
        return _cell_check(is_number, "not a number", remedy)
    remedy = f"use one of the levels in cohort.yaml ({', '.join(variable.levels)}), or leave the cell empty where it is missing"
    return _one_of("unknown level", (*variable.levels, ""), remedy)


def _known_patient(patient_ids: frozenset[str]):
    remedy = "add the patient to patients.csv or remove this row"
    alike = {patient.lstrip("0").casefold(): patient for patient in patient_ids}
    return _cell_check(patient_ids.__contains__, "patient is not in patients.csv", remedy, meant=alike)


def _not_empty(column: str, remedy: str):
    return _cell_check(lambda text: text != "", f"{column} is empty", remedy)


def _one_of(message: str, allowed: Collection[str], remedy: str, meant: Mapping[str, str] | None = None):
    return _cell_check(frozenset(allowed).__contains__, message, remedy, tuple(allowed), meant)


def _cell_check(accepts, message: str, remedy: str, names: tuple[str, ...] = (), meant: Mapping | None = None):
    """names, meant: what `with_suggestion` may suggest instead of a cell that is not accepted."""
    import pandera.pandas as pa  # see _schema

    suggested = {"names": names, "meant": meant or {}}
    return pa.Check(
        lambda column: column.map(accepts).astype(bool), title=message, description=remedy, statistics=suggested
    )


def with_suggestion(remedy: str, written: object, names: Collection[str], meant: Mapping[str, str]) -> str:
    """The remedy, after "did you mean X?" where what was written is near one of `names` or a key of `meant` {word: code}.

    Near is the same but for case or leading zeros, the beginning of one name alone, a longer word that begins with a name,
    or a slip of the pen.
    """
    text = str(written).strip().casefold()
    if not text:
        return remedy
    folded = {name.casefold(): name for name in names if name}
    begun = [name for name in folded if len(text) > 2 and name.startswith(text)]
    begun += [name for name in folded if len(name) > 3 and text.startswith(name)]
    near = folded.get(text) or meant.get(text) or meant.get(text.lstrip("0"))  # ids that a table program cut
    if near is None:
        close = begun if len(begun) == 1 else difflib.get_close_matches(text, folded, 1, 0.8)
        near = folded[close[0]] if close else None
    return remedy if near is None else f"did you mean {near}? Otherwise {remedy}"


def _parses(parse):
    def accepts(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return accepts
