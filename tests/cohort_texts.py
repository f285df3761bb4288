"""A small valid cohort folder, as text: what tests change one thing in."""

from __future__ import annotations

from pathlib import Path

YAML = """\
name: toy
title: A toy cohort
provenance: simulated
endpoints:
  aln_metastasis: {label: ALN metastasis, positive: N+, negative: N0}
  apcr: {label: Axillary response, positive: ypN0, negative: ypN+}
primary_endpoint: aln_metastasis
centers: [North, South]
external_centers: [South]
clinical:
  age_years: {label: Age, kind: continuous, unit: years}
  er: {label: ER, kind: nominal, levels: [negative, positive]}
  t_stage: {label: T stage, kind: ordinal, levels: [T1, T2, T3]}
readers: {r1: a radiologist}
license: none
citation: none
source: tests
"""
PATIENTS = """\
patient_id,center,aln_metastasis,apcr,age_years,er,t_stage
007,North,0,,51.5,positive,T1
008,North,1,1,44,negative,T3
009,South,1,,,positive,
010,North,,,60,,T2
"""
IMAGES = """\
image_id,patient_id,modality,timepoint,sequence_or_view,laterality,path,mask_path,box,pixel_spacing_mm,unit_label
i1,007,US,pre,B-mode,L,images/a.png,images/a_mask.png,1 2 30 40,0.1 0.1,
i2,008,MRI,post,DCE,R,images/b.nii.gz,,0 1 2 3 10 20,,1
i3,008,CT,,,,images/series,,,,
"""
READERS = """\
patient_id,reader_id,score
007,r1,0.25
008,r1,1
"""


def write_cohort_texts(place: Path) -> Path:
    """Write the folder, its images as bytes that no reader can open; returns it."""
    (place / "images" / "series").mkdir(parents=True)
    for name in ("a.png", "a_mask.png", "b.nii.gz"):
        (place / "images" / name).write_bytes(b"not opened by the validation")
    texts = {"cohort.yaml": YAML, "patients.csv": PATIENTS, "images.csv": IMAGES, "readers.csv": READERS}
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
    return place
