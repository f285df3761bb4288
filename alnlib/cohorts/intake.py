"""A hospital's folder and its table made into a cohort folder: patients joined, identities replaced, nothing lost in silence.

Files are found in `scan`, the table is judged in `sheet`, and what a new file may say is settled in `deidentify`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from alnlib.cohorts.deidentify import Header, Pseudonyms, write_dicom, write_nifti, write_picture
from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.scan import Found, Scan, scan_folder, with_masks
from alnlib.cohorts.schema import MODALITIES, ClinicalVariable, Cohort, Endpoint, empty_readers, images_table
from alnlib.cohorts.sheet import Sheet, column_names, judged, numbers, read_sheet
from alnlib.errors import InputError, Problem
from alnlib.files import sha256_file, write_csv, write_json
from alnlib.imaging import read
from alnlib.imaging.burned_in import text_boxes
from alnlib.imaging.clips import PICTURE_SUFFIXES, VIDEO_SUFFIXES, key_frame, read_clip
from alnlib.imaging.read import read_mask
from alnlib.imaging.volumes import Volume, read_series, read_volume, read_volume_mask

MARK = "intake.json"
"""In a cohort folder made here: the SHA-256 of what it was made from, and of each of its files."""

CENTER = "center-1"
NOTE_COLUMNS = ("what", "name", "reason")
KEY_COLUMNS = ("old_id", "patient_id", "days_shifted")
MM_PER = {"mm": 1.0, "cm": 10.0}
RESERVED = ("patient_id", "center", "split")
NAMES_IN_A_CELL = re.compile(r"\s*[&;,|]\s*")
EXPECTED_SUFFIXES = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, ".dcm", ".nii", ".gz", ".nrrd")


@dataclass(frozen=True)
class IntakeOptions:
    """What the user says of the hospital's folder and table.

    endpoints: column of the table by name of the endpoint, the primary one first. positive, negative: its values that mean 1
    and 0, by name; none positive: 1; none negative: the only other value. patient_column: heading of the patient's id.
    modality: of pictures and volumes that do not tell theirs. spacing: (heading, "mm" or "cm") of a column with the edge of a
    pixel. center_column: heading of the center, of which only a number is kept. leave_out: headings of columns that are to be
    no predictors. key: where old and new ids go, or come from. report: where that goes which was left out. accept_near:
    whether ids that differ in zeros, case and separators are one.
    """

    endpoints: dict[str, str]
    positive: dict[str, tuple[str, ...]] = field(default_factory=dict)
    negative: dict[str, tuple[str, ...]] = field(default_factory=dict)
    patient_column: str = ""
    modality: str = ""
    spacing: tuple[str, str] | None = None
    center_column: str = ""
    key: Path | None = None
    report: Path | None = None
    accept_near: bool = False
    leave_out: tuple[str, ...] = ()


@dataclass
class Intake:
    """What came of it. cohort: as written, or as it was. unchanged: whether it stood there already. notes: what was left out or
    needs a look: what (image, mask, column, patient, id, value, text), its name in the source, and why."""

    cohort: Cohort
    report: Path
    unchanged: bool = False
    notes: list[tuple[str, str, str]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many notes there are of each kind."""
        return dict(Counter(what for what, _, _ in self.notes))


def new_cohort(folder: str | Path, images: str | Path, table: str | Path, options: IntakeOptions) -> Intake:
    """Write the cohort folder of the images below a folder and the patients of a table; neither is changed.

    Every file is written anew from what `imaging` reads of it: what cannot be read, has no patient in the table or no known
    modality is left out and noted. Patients without images stay. Dates inside DICOM files are moved per patient; the table's
    are left out, as are its identifiers and free text. The folder appears whole or not at all; where it was made from the same
    files and options before, it is left as it is. Raises InputError for a folder that holds anything else, and for a table
    or options from which no valid cohort comes.
    """
    folder, images, table = Path(folder), Path(images), Path(table)
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    report = options.report or folder.with_name(f"{folder.name}.intake.csv")
    _check_places(folder, images, report, options.key)
    sheet = read_sheet(table)
    if not images.is_dir():
        raise InputError(f"{images}: no such folder of images; give it as --dicom")
    digest, known = _digest(images, table, options), _read_key(options.key)
    if _stands_already(folder, digest) and (options.key is None or known):
        return Intake(read_cohort(folder), report, unchanged=True)
    draft = _Draft(sheet, options, images)
    draft.scan()
    patients = draft.patients()
    draft.join(set(patients.index))
    pseudonyms = Pseudonyms(patients.index, known)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        rows = _write_images(draft, part, pseudonyms)
        write_csv(pd.DataFrame(draft.notes, columns=list(NOTE_COLUMNS)), report)
        if rows.empty:
            theirs = next((image.patient or image.name for image in draft.found.images), "none")
            raise InputError(
                f"{images}: no file becomes an image of a patient of {table} (images are, for example, of {theirs!r}, the table "
                f"of {patients.index[0]!r}); {report} says why of each: choose another --patient-column, or --accept-near"
            )
        write_cohort(_cohort(folder.name, part, draft, patients, rows, pseudonyms), part)
        cohort = replace(read_cohort(part), root=folder)
        files = {path.relative_to(part).as_posix(): sha256_file(path) for path in part.rglob("*") if path.is_file()}
        write_json({"made_from": digest, "files": files}, part / MARK)
        if options.key is not None:
            key = [(old, new, pseudonyms.days[old]) for old, new in pseudonyms.ids.items()]
            write_csv(pd.DataFrame(sorted(key, key=lambda row: row[1]), columns=list(KEY_COLUMNS)), options.key)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Intake(cohort, report, notes=draft.notes)


def fitting_columns(images: str | Path, sheet: Sheet, modality: str = "") -> dict[str, int]:
    """How many images of a folder each column of a table names the patient of, most first; columns that name none left out."""
    found = scan_folder(images, modality).images
    counts = {}
    for heading in sheet.cells:
        ids = set(sheet.cells[heading]) - {""}
        counts[heading] = sum(one.patient in ids or patient_in_name(one.name, ids) != "" for one in found)
    return dict(sorted(((name, n) for name, n in counts.items() if n), key=lambda pair: -pair[1]))


def patient_in_name(name: str, ids: set[str]) -> str:
    """The id of a patient that a file's place below the folder tells; "" for none, or several equally good.

    An id is a folder's or file's name, or whole words of it, at its start; elsewhere only one with a letter and a digit. The
    longest counts, and of equals none.
    """
    fitting = set()
    parts = PurePosixPath(name).parts
    for part in (*parts[:-1], parts[-1], re.sub(r"(\.nii)?\.\w+$", "", parts[-1])):
        starts = [0, *(at.end() for at in re.finditer(r"[\W_]+", part))]
        ends = [*(at.start() for at in re.finditer(r"[\W_]+", part)), len(part)]
        spans = {(start, part[start:end]) for start in starts for end in ends if end > start}
        fitting |= {text for start, text in spans if text in ids and (start == 0 or _tells_apart(text))}
    longest = [text for text in fitting if len(text) == max(map(len, fitting))]
    return longest[0] if len(longest) == 1 else ""


def _tells_apart(text: str) -> bool:
    return bool(re.search(r"[A-Za-z]", text) and re.search(r"\d", text))


def _folded(text: str) -> str:
    """An id without case, separators and leading zeros."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", "", text.lower()))


class _Draft:
    """The joining of one folder and one table: what was found, whose it is, and what is left out and why."""

    def __init__(self, sheet: Sheet, options: IntakeOptions, folder: Path) -> None:
        self.sheet, self.options, self.folder = sheet, options, folder
        self.notes: list[tuple[str, str, str]] = []
        self.endpoints: dict[str, Endpoint] = {}
        self.clinical: dict[str, ClinicalVariable] = {}
        self.images: list[tuple[str, Found]] = []
        self.spacing: dict[str, str] = {}
        self.found = Scan()
        if not options.patient_column:
            fitting = fitting_columns(folder, sheet, options.modality)
            told = ", ".join(f"{name!r} fits {count} images" for name, count in list(fitting.items())[:3])
            raise InputError(
                f"{sheet.path}: which column names the patient? Give --patient-column ({told or 'none fits'})"
            )
        self.ids = sheet.column(options.patient_column, "--patient-column")
        for line in self.ids.index[self.ids == ""]:
            self.note("patient", f"row {line}", "the row names no patient")
        if (self.ids == "").all():
            raise InputError(
                f"{sheet.path}: column {options.patient_column!r} is empty; choose another as --patient-column"
            )

    def note(self, what: str, name: str, reason: str) -> None:
        self.notes.append((what, name, reason))

    # ------------------------------------------------------------------------------------------------------- the folder

    def scan(self) -> None:
        """Find the images; columns of the table that name files are set apart."""
        files = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        by_name: dict[str, list[str]] = {}
        for name in files:
            for key in {name.lower(), PurePosixPath(name).name.lower()}:
                by_name.setdefault(key, []).append(name)
        self.file_columns = {}
        for heading in self.sheet.cells.columns.drop(self.options.patient_column):
            cells = self.sheet.cells[heading].map(
                lambda text: [one.lower() for one in NAMES_IN_A_CELL.split(text) if one]
            )
            given = [one for cell in cells for one in cell]
            like_files = [one in by_name or one.endswith(EXPECTED_SUFFIXES) for one in given]
            if any(one in by_name for one in given) and np.mean(like_files) > 0.5:
                places = cells.map(lambda cell: [by_name[one][0] for one in cell if len(by_name.get(one, ())) == 1])
                self.file_columns[heading] = places
        masks = [
            heading for heading in self.file_columns if re.search(r"mask|seg|outline|contour|roi", heading.lower())
        ]
        named = [name for heading in masks for names in self.file_columns[heading] for name in names]
        self.found = scan_folder(self.folder, self.options.modality, named)
        self.patient_of: dict[str, str] = {}
        image_of: dict[str, str] = {}
        spacings = self._spacings()
        for line, patient in self.ids.items():
            pictures = [
                name for heading, names in self.file_columns.items() if heading not in masks for name in names[line]
            ]
            self.patient_of |= dict.fromkeys(pictures, patient)
            self.spacing |= dict.fromkeys(pictures, spacings[line])
            for heading in masks if len(pictures) == 1 else ():
                image_of |= dict.fromkeys(self.file_columns[heading][line], pictures[0])
        for name, reason in self.found.left_out:
            self.note("image", name, reason)
        self.found.images, spare = with_masks(self.found.images, self.found.outlines, image_of)
        for outline in spare:
            self.note("mask", outline.name, "no image that it belongs to, or one that has a mask already")

    def _spacings(self) -> pd.Series:
        """Of each row "row column" in mm, "" where the table says none."""
        if self.options.spacing is None:
            return pd.Series("", index=self.ids.index)
        heading, unit = self.options.spacing
        try:
            edges = numbers(self.sheet.column(heading, "--spacing"), self.sheet.decimal_comma) * MM_PER[unit]
        except ValueError as error:
            raise InputError(f"{self.sheet.path}: column {heading!r} of --spacing: {error}") from error
        if (edges <= 0).any():
            raise InputError(
                f"{self.sheet.path}, row {edges.index[edges <= 0][0]}: a pixel of no size in column {heading!r}"
            )
        return edges.map(lambda mm: "" if np.isnan(mm) else f"{mm:.8g} {mm:.8g}")

    def join(self, ids: set[str]) -> None:
        """Give every image its patient; note images without one, patients without images, and ids that almost meet."""
        folded: dict[str, list[str]] = {}
        for patient in sorted(ids):
            folded.setdefault(_folded(patient), []).append(patient)
        near: Counter[tuple[str, str]] = Counter()
        strangers = []
        for image in self.found.images:
            patient = self.patient_of.get(image.name, "") or (image.patient if image.patient in ids else "")
            patient = patient or patient_in_name(image.name, ids)
            if not patient:
                own, among = image.patient, {}
                for text in (own,) if own else re.split(r"[/_. ]", image.name):
                    among |= {text: folded[_folded(text)][0]} if len(folded.get(_folded(text), ())) == 1 else {}
                if len(set(among.values())) == 1:
                    near[next(iter(among.items()))] += 1
                    patient = next(iter(among.values())) if self.options.accept_near else ""
            if not patient:
                strangers.append(image)
            elif not image.modality:
                self.note("image", image.name, "its modality is not told; give --modality, or name file or folder so")
            else:
                self.images.append((patient, image))
        for image in strangers:
            own = f" ({image.patient!r})" if image.patient else ""
            self.note("image", _all_of(image), f"its patient{own} is not in the table")
        for (theirs, ours), count in near.items():
            verb = "were taken for one" if self.options.accept_near else "were not joined; --accept-near does"
            self.note(
                "id",
                theirs,
                f"in {count} images, {ours!r} in the table: they differ in zeros, case, separators and {verb}",
            )
        for patient in sorted(ids - {patient for patient, _ in self.images}):
            self.note("patient", patient, "no image: with endpoints and clinical variables only")

    # -------------------------------------------------------------------------------------------------------- the table

    def patients(self) -> pd.DataFrame:
        """Endpoints, center and clinical variables, indexed by the old id: one row per patient, in the order of the table."""
        cells = self.sheet.cells[self.ids != ""]
        ids = self.ids[self.ids != ""]
        values = pd.DataFrame({heading: self._one_each(cells[heading], ids) for heading in cells})
        table = pd.DataFrame(index=values.index)
        table["center"] = self._centers(values)
        for name, heading in self.options.endpoints.items():
            self.sheet.column(heading, f"--endpoint {name}=")
            table[name] = self._labels(name, values[heading])
        used = {
            self.options.patient_column,
            self.options.center_column,
            *self.options.endpoints.values(),
            *self.file_columns,
        }
        used |= {self.options.spacing[0]} if self.options.spacing else set()
        used |= {self.sheet.column(heading, "--leave-out").name for heading in self.options.leave_out}
        offered = [heading for heading in values if heading not in used]
        names = column_names(offered, (*RESERVED, *self.options.endpoints))
        identities = sorted(self.found.identities | {i.lower() for i in ids if _tells_apart(i)})
        for heading in offered:
            try:
                variable, column = judged(heading, values[heading], self.sheet.decimal_comma, identities)
            except ValueError as error:
                self.note("column", heading, str(error))
                continue
            self.clinical[names[heading]] = variable
            table[names[heading]] = column
        return table

    def _one_each(self, cells: pd.Series, ids: pd.Series) -> pd.Series:
        """Of several rows of a patient the value that they agree on; where they differ none, noted, of endpoints an error."""
        given = cells[cells != ""].groupby(ids, sort=False).agg(lambda own: sorted(set(own)))
        differing = given[given.map(len) > 1]
        if len(differing) and cells.name in self.options.endpoints.values():
            problems = []
            for patient in differing.index:
                line = ids.index[(ids == patient) & (cells != "")][0]
                remedy = "a patient has one endpoint: correct the rows, or leave one"
                value = ", ".join(differing[patient])
                problems.append(
                    Problem.of(self.sheet.path, "rows of one patient differ", remedy, line, cells.name, value)
                )
            raise InputError(f"{self.sheet.path}: {len(problems)} patients with two values of an endpoint", problems)
        if len(differing) and cells.name not in self.file_columns:
            self.note("value", cells.name, f"rows of one patient differ in {len(differing)} patients: taken as missing")
        single = given[given.map(len) == 1].map(lambda own: own[0])
        return single.reindex(ids.unique(), fill_value="").astype("str")

    def _centers(self, values: pd.DataFrame) -> pd.Series:
        """center-1 and so on, the one with most patients first."""
        if not self.options.center_column:
            return pd.Series(CENTER, index=values.index)
        cells = self.sheet.column(self.options.center_column, "--center-column")
        if (cells[self.ids != ""] == "").any() or (values[self.options.center_column] == "").any():
            raise InputError(
                f"{self.sheet.path}: column {self.options.center_column!r} of --center-column is empty, or differs between rows "
                "of a patient; name one center of every patient"
            )
        order = values[self.options.center_column].value_counts().index
        return values[self.options.center_column].map({name: f"center-{at}" for at, name in enumerate(order, 1)})

    def _labels(self, name: str, values: pd.Series) -> pd.Series:
        """Int64 labels of an endpoint, <NA> where the table says neither; also describes it."""
        counts = values[values != ""].str.lower().value_counts()
        told = ", ".join(f"{value} ({count})" for value, count in counts.items())
        ones, zeros = (
            [v.lower() for v in given.get(name, ())] for given in (self.options.positive, self.options.negative)
        )
        heading = f"{self.sheet.path}: column {self.options.endpoints[name]!r} of endpoint {name}"
        if not ones and set(counts.index) <= {"0", "1"}:
            ones = ["1"]
        absent = [value for value in (*ones, *zeros) if value not in counts.index]
        others = [value for value in counts.index if value not in ones]
        if not ones:
            raise InputError(f"{heading} holds {told}; say which mean 1 with --positive {name}=VALUE")
        if absent or set(ones) & set(zeros):
            raise InputError(
                f"{heading} holds {told}; {', '.join(absent or ones)} is not there, or both 1 and 0: correct it"
            )
        if not zeros and len(others) != 1:
            raise InputError(
                f"{heading} holds {told}; say which mean 0 with --negative {name}=VALUE (the rest stays unknown)"
            )
        zeros = zeros or others
        for value in others:
            if value not in zeros:
                self.note(
                    "value", value, f"in {counts[value]} patients: neither positive nor negative for {name}, so unknown"
                )
        self.endpoints[name] = Endpoint(name, " or ".join(ones), " or ".join(zeros))
        return values.str.lower().map(dict.fromkeys(zeros, 0) | dict.fromkeys(ones, 1)).astype("Int64")


# ------------------------------------------------------------------------------------------------------------- writing


def _write_images(draft: _Draft, part: Path, pseudonyms: Pseudonyms) -> pd.DataFrame:
    """Write every image that can be read, and its mask; the rows of images.csv. Others are noted."""
    rows, numbered, visits = [], Counter(), set()
    order = sorted(
        draft.images, key=lambda pair: (pseudonyms.ids[pair[0]], pair[1].modality, pair[1].date, pair[1].name)
    )
    for patient, image in order:
        new = pseudonyms.ids[patient]
        visit = (new, image.timepoint, image.view)
        if image.modality == "MRI" and image.view and visit in visits:
            reason = f"a second volume of {image.view} at the same timepoint {image.timepoint}".rstrip()
            draft.note("image", _all_of(image), f"{reason}; say pre and post in the names of folders, or leave one out")
            continue
        image_id = f"{new}_{image.modality}_{numbered[new, image.modality] + 1:02d}"
        stem = part / "images" / new / image_id
        ids = (
            pseudonyms.uid(kind, patient, getattr(image, kind) or image.name)
            for kind in ("study", "series", "instance")
        )
        date = pseudonyms.date(patient, image.date)
        header = Header(new, image.modality, *ids, date, laterality=image.laterality)
        header = replace(header, view=image.view) if image.modality == "MG" else header
        try:
            path, mask, text = _WRITERS[image.modality](image, stem, header, draft.note)
        except InputError as error:
            draft.note("image", _all_of(image), str(error))
            continue
        numbered[new, image.modality] += 1
        visits.add(visit)
        place = path.relative_to(part).as_posix()
        for box in text:
            draft.note(
                "text",
                place,
                f"looks like burnt-in text at {' '.join(map(str, box))} (row0 col0 row1 col1): look at it",
            )
        rows.append(
            {
                "image_id": image_id,
                "patient_id": new,
                "modality": image.modality,
                "timepoint": image.timepoint or None,
                "sequence_or_view": image.view or None,
                "laterality": image.laterality or None,
                "path": place,
                "mask_path": mask.relative_to(part).as_posix() if mask else None,
                "pixel_spacing_mm": draft.spacing.get(image.name) or None,
            }
        )
    return images_table(pd.DataFrame(rows))


def _all_of(image: Found) -> str:
    """The name of an image, and how many more files it has."""
    return image.name if len(image.files) == 1 else f"{image.name} and {len(image.files) - 1} more"


_Written = tuple[Path, Path | None, list]
_Note = Callable[[str, str, str], None]


def _write_still(image: Found, stem: Path, header: Header, note: _Note) -> _Written:
    picture = read.read_image(image.files[0])
    mask = _flat_mask(image, picture.pixels.shape, stem, note)
    if image.is_dicom:
        spacing_mm = None if picture.several_regions else picture.spacing_mm
        if picture.several_regions:
            note(
                "value",
                image.name,
                "pixels of two sizes side by side; give pixel_spacing_mm of the part with the lesion",
            )
        path = write_dicom(picture.pixels, replace(header, spacing_mm=spacing_mm, in_hu=picture.in_hu), stem)
    else:
        path = write_picture(picture.pixels, stem)
    return path, mask, text_boxes(picture.pixels)


def _write_sweep(image: Found, stem: Path, header: Header, note: _Note) -> _Written:
    clip = read_clip(image.files[0])
    mask = _flat_mask(image, clip.frames.shape[1:], stem, note)
    timing = {"frame_time_ms": clip.frame_time_ms, "key_frame": None if clip.key_frame is None else key_frame(clip)}
    path = write_dicom(clip.frames, replace(header, spacing_mm=clip.spacing_mm, **timing), stem)
    return path, mask, text_boxes(clip.frames.min(axis=0))


def _write_mri(image: Found, stem: Path, header: Header, note: _Note) -> _Written:
    volume = _volume(image)
    mask = _outline(image, lambda: read_volume_mask(image.mask.files[0], volume), note)
    path = write_nifti(volume.values, volume.geometry, stem)
    return path, None if mask is None else write_nifti(mask, volume.geometry, _masks_stem(stem)), []


def _write_ct(image: Found, stem: Path, header: Header, note: _Note) -> _Written:
    """One slice: the only one, or that with most voxels of the outline."""
    single = len(image.files) == 1 and image.is_dicom and (image.mask is None or _is_picture(image.mask))
    if single or _is_picture(image):
        return _write_still(image, stem, header, note)
    volume = _volume(image)
    mask = _outline(image, lambda: read_volume_mask(image.mask.files[0], volume), note)
    if mask is None or not mask.any():
        raise InputError(
            f"{volume.path}: {len(volume.values)} slices and no outline, so the node's place is unknown; export a SEG, RTSTRUCT "
            "or NIfTI mask with it, or one slice"
        )
    slice_of_node = int(mask.sum(axis=(1, 2)).argmax())
    header = replace(header, spacing_mm=volume.geometry.spacing_mm[1:], in_hu=volume.in_hu)
    path = write_dicom(volume.values[slice_of_node], header, stem)
    return path, write_picture(255 * mask[slice_of_node].astype(np.uint8), _masks_stem(stem)), []


_WRITERS = {"US": _write_still, "MG": _write_still, "USV": _write_sweep, "MRI": _write_mri, "CT": _write_ct}


def _outline(image: Found, read_it: Callable[[], np.ndarray], note: _Note) -> np.ndarray | None:
    """The mask of an image; None where it has none, or, noted, none that can be read."""
    if image.mask is None:
        return None
    try:
        return read_it()
    except InputError as error:
        note("mask", image.mask.name, str(error))
        return None


def _flat_mask(image: Found, shape: tuple[int, int], stem: Path, note: _Note) -> Path | None:
    mask = _outline(image, lambda: read_mask(image.mask.files[0], shape), note)
    if mask is None or not mask.any():
        if mask is not None:
            note("mask", image.mask.name, "it is empty")
        return None
    return write_picture(255 * mask.astype(np.uint8), _masks_stem(stem))


def _masks_stem(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}_mask")


def _is_picture(found: Found) -> bool:
    return found.files[0].name.lower().endswith(PICTURE_SUFFIXES)


def _volume(image: Found) -> Volume:
    if not image.is_dicom:
        return read_volume(image.files[0])
    path = image.files[0] if len(image.files) == 1 else image.files[0].parent
    volume = read_series(path, list(image.files))
    read.check_finite(volume.values, path)
    return volume


def _cohort(
    name: str, root: Path, draft: _Draft, patients: pd.DataFrame, images: pd.DataFrame, pseudonyms: Pseudonyms
) -> Cohort:
    table = patients.reset_index(drop=True)
    table.insert(0, "patient_id", [pseudonyms.ids[old] for old in patients.index])
    return Cohort(
        name=re.sub(r"\W+", "-", name).strip("-") or "cohort",
        title=f"{len(table)} patients of {table['center'].nunique()} center(s)",
        provenance="real",
        endpoints=draft.endpoints,
        primary_endpoint=next(iter(draft.endpoints)),
        centers=tuple(sorted(table["center"].unique(), key=lambda center: int(center.rpartition("-")[2]))),
        external_centers=(),
        clinical=draft.clinical,
        readers_described={},
        license="not stated",
        citation="not stated",
        source="made by run_all.py new-cohort; identities replaced, dates moved",
        patients=table.sort_values("patient_id").reset_index(drop=True),
        images=images,
        readers=empty_readers(),
        root=root,
    )


# ---------------------------------------------------------------------------------------------------- places and repeats


def _check_places(folder: Path, images: Path, report: Path, key: Path | None) -> None:
    """Nothing is written among the sources, and nothing with old names into the cohort folder."""
    top, source = folder.resolve(), images.resolve()
    if top.is_relative_to(source) or source.is_relative_to(top):
        raise InputError(f"{folder}: the cohort folder and {images} lie in each other; choose a place apart")
    for option, path in (("--report", report), ("--key", key)):
        place = None if path is None else path.resolve()
        if place is not None and (place.is_relative_to(top) or place.is_relative_to(source)):
            raise InputError(f"{path}: {option} holds names of the source; put it outside of {folder} and {images}")
    if report.exists() and not (report.is_file() and report.read_bytes().startswith(",".join(NOTE_COLUMNS).encode())):
        raise InputError(f"{report}: is no report of new-cohort, and is not overwritten; name another file as --report")


def _digest(images: Path, table: Path, options: IntakeOptions) -> str:
    """SHA-256 of all files below `images`, the table and the options."""
    digest = hashlib.sha256(repr(replace(options, report=None)).encode() + sha256_file(table).encode())
    for path in sorted(path for path in images.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(images).as_posix()}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def _stands_already(folder: Path, digest: str) -> bool:
    """Whether the folder was made of the same before. Raises InputError if it holds anything that was not made here."""
    held = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder that does not exist yet")
    if not held:
        return False
    mark = folder / MARK
    try:
        made = json.loads(mark.read_text(encoding="utf-8"))
        files, same = made["files"], made["made_from"] == digest
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{folder}: holds {len(held)} files not made by new-cohort; give an empty or new folder"
        ) from None
    if same and all((folder / name).is_file() for name in files):
        return True
    names = {path.relative_to(folder).as_posix(): path for path in held if path != mark}
    foreign = sorted(name for name, path in names.items() if files.get(name) != sha256_file(path))
    if foreign:
        raise InputError(
            f"{folder}: {', '.join(foreign[:3])} ({len(foreign)} files) were put there or changed since new-cohort made it; "
            "give a new folder, or take them away"
        )
    return False


def _read_key(path: Path | None) -> dict[str, tuple[str, int]]:
    """(new id, days) by old id of the key of an earlier intake; none where there is no such file yet."""
    if path is None or not path.exists():
        return {}
    cells = read_sheet(path).cells
    try:
        rows = zip(*(cells[column] for column in KEY_COLUMNS), strict=True)
        key = {old: (new, int(days)) for old, new, days in rows}
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path}: is no key of new-cohort ({', '.join(KEY_COLUMNS)}); name another file as --key"
        ) from error
    if len({new for new, _ in key.values()}) < len(cells) or not all(
        re.fullmatch(r"P-\d+", new) for new, _ in key.values()
    ):
        raise InputError(f"{path}: gives an id twice, or one that is not P-0001 and so on; name another file as --key")
    return key


def parse_options(
    endpoints: Sequence[str],
    positive: Sequence[str],
    negative: Sequence[str],
    spacing: str = "",
    modality: str = "",
    **others: object,
) -> IntakeOptions:
    """Options as the command line has them: NAME=COLUMN, NAME=VALUE, COLUMN=mm or COLUMN=cm. Raises InputError."""
    columns = dict(_pair(text, "--endpoint", "NAME=COLUMN") for text in endpoints)
    if len(columns) < len(endpoints):
        raise InputError(f"--endpoint gives a name twice ({', '.join(endpoints)}); name each endpoint once")
    if not columns:
        raise InputError("no endpoint; give --endpoint NAME=COLUMN, for example --endpoint aln_metastasis=pN")
    for name in columns:
        if not re.fullmatch(r"[a-z]\w*", name) or name in RESERVED:
            raise InputError(
                f"--endpoint {name}: use lower-case letters, digits and _, and none of {', '.join(RESERVED)}"
            )
    if modality and modality not in MODALITIES:
        raise InputError(f"--modality {modality}: choose {', '.join(MODALITIES)}")
    edge = None
    if spacing:
        heading, _, unit = spacing.rpartition("=")
        if not heading or unit not in MM_PER:
            raise InputError(f"--spacing {spacing}: give COLUMN=mm or COLUMN=cm")
        edge = heading, unit
    values = [_values(texts, option, columns) for texts, option in ((positive, "--positive"), (negative, "--negative"))]
    return IntakeOptions(columns, *values, modality=modality, spacing=edge, **others)


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise InputError(f"{option} {text}: give {form}")
    return name.strip(), value.strip()


def _values(texts: Iterable[str], option: str, endpoints: dict[str, str]) -> dict[str, tuple[str, ...]]:
    values: dict[str, tuple[str, ...]] = {}
    for name, value in (_pair(text, option, "NAME=VALUE") for text in texts):
        if name not in endpoints:
            raise InputError(
                f"{option} {name}={value}: no --endpoint is called {name}; there is {', '.join(endpoints)}"
            )
        values[name] = (*values.get(name, ()), value)
    return values
