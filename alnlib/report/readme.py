"""Fill README.md with numbers that runs wrote: `python -m alnlib.report.readme`; a test compares.

Text between a `<!-- numbers: NAME -->` and the next `<!-- end -->` belongs to this module, the rest to its authors.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alnlib.files import write_text
from alnlib.paths import repository_root
from alnlib.studies import published_value, shown_to

Numbers = Mapping[str, Mapping[str, Any]]

SIMULATED = Path("results/simulated-demo/report/numbers.json")
TIMES = Path("benchmarks/stage_times.csv")
REAL = Path("tests/references/runs")
"""numbers.json of the runs on public cohorts, which are not committed themselves."""

SIMULATED_ROWS = (
    ("A: clinical model", "tang", "clinical"),
    ("A: ultrasound network (`DL_US`)", "tang", "DL_US"),
    ("A: MRI network (`DL_MRI`)", "tang", "DL_MRI"),
    ("A: both networks (`DL_MRI+US`)", "tang", "DL_MRI+US"),
    ("A: both and clinical (`DL_MRI+US+Clinical`)", "tang", "DL_MRI+US+Clinical"),
    ("B: CT nodes, fixed crop (`CT_FSC`)", "park", "CT_FSC"),
    ("B: CT nodes, adjustable crop (`CT_ASC`)", "park", "CT_ASC"),
    ("B: CT nodes, both (`CT_FSC+ASC`)", "park", "CT_FSC+ASC"),
    ("C: video, TIN", "li_video", "TIN"),
    ("C: video, R(2+1)D", "li_video", "R(2+1)D"),
    ("C: video, ResNet-3D", "li_video", "ResNet-3D"),
    ("C: its key frame (`static image`)", "li_video", "static image"),
    ("D: radiomics, logistic regression", "guo", "radiomics-LR"),
    ("D: radiomics, perceptron", "guo", "radiomics-MLP"),
    ("D: deep features, perceptron", "guo", "DL-MLP"),
    ("D: both, perceptron (`combined-MLP`)", "guo", "combined-MLP"),
    ("E: clinical model of response", "li_nat", "clinical"),
    ("E: radiomics, both visits", "li_nat", "radiomics"),
    ("E: deep features, both visits", "li_nat", "deep learning"),
    ("E: all together (`DLR`)", "li_nat", "DLR"),
)
"""Name, study and model."""

ATTAINABLE_ROWS = (
    ("clinical variables", "clinical", "", ""),
    ("ultrasound still", "ultrasound", "tang", "DL_US"),
    ("ultrasound still + MRI + clinical (A)", "clinical_ultrasound_mri", "tang", "DL_MRI+US+Clinical"),
    ("CT node, fixed crop (B)", "ct_nodes_fixed_size", "park", "DenseNet121 FSC"),
    (
        "CT node without size and surroundings: adjustable crop (B)",
        "ct_nodes_adjustable_square",
        "park",
        "DenseNet121 ASC",
    ),
    ("CT node, both crops (B)", "ct_nodes", "park", "DenseNet121 FSC+ASC"),
    ("key frame of an ultrasound sweep (C)", "video_key_frame", "li_video", "static image"),
    ("the whole sweep (C)", "video", "li_video", "TIN"),
    ("mammograms + MRI (D)", "mri_mammography", "guo", "combined-MLP"),
    ("MRI before therapy alone (E)", "response_mri_pre", "", ""),
    ("MRI after therapy alone (E)", "response_mri_post", "", ""),
    ("both visits (E)", "response_mri_longitudinal", "", ""),
    ("both visits + clinical (E)", "response_clinical_mri_longitudinal", "li_nat", "DLR"),
)
"""What is shown, its key in truth.json, and the study and model whose published AUC stands beside it."""

DUKE_ROWS = (
    ("patients with known nodal stage", "aln_metastasis_known"),
    ("of these node-positive", "aln_metastasis_positive"),
    ("radiologist's MRI read, sensitivity", "radiologist_mri_sensitivity"),
    ("radiologist's MRI read, specificity", "radiologist_mri_specificity"),
    ("clinical model, cross-validated AUC", "tang_clinical_cross_validation_auc"),
    ("the same with the radiologist's read", "tang_clinical+radiologist_mri_cross_validation_auc"),
    ("clinical model, AUC on the 30 % test split", "tang_clinical_test_auc"),
    ("patients with known axillary response (apCR)", "apcr_known"),
    ("of these with axillary pCR", "apcr_positive"),
    ("clinical model of apCR, out-of-fold AUC of training patients", "li_nat_clinical_cross_validation_auc"),
    ("clinical model of apCR, AUC on the 43 % test split", "li_nat_clinical_test_auc"),
)
BREAST_ROWS = (
    ("cases with known diagnosis", "malignant_known"),
    ("of these malignant", "malignant_positive"),
    ("network on the images (`DL_US`), AUC on the test split", "tang_DL_US_test_auc"),
    ("clinical and descriptor model, AUC on the test split", "tang_clinical_test_auc"),
    ("BI-RADS assessment, AUC on validation and test cases", "birads_auc"),
)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def simulated_table(numbers: Numbers) -> str:
    """The simulated demo: what each model reached and what was attainable."""
    rows = []
    for name, study, model in SIMULATED_ROWS:
        keys = [f"{study}_{model}_{split}_{whose}auc" for split in ("test", "external") for whose in ("", "oracle_")]
        keys += [f"attainable_{shown_to(study, model)}_primary_auc"]
        rows.append([name, *(numbers[key]["text"] if key in numbers else "" for key in keys)])
    sides = ("internal test AUC", "oracle there", "external test AUC", "oracle there", "attainable")
    return markdown(("model (**simulated** patients)", *sides), rows)


def times_table(root: Path) -> str:
    """How long the commands take; the run itself as `benchmarks/stage_times.py` measured it."""
    with open(root / TIMES, encoding="utf-8", newline="") as stream:
        whole = next(row for row in csv.DictReader(stream) if row["stage"] == "whole run")
    minutes = f"{float(whole['seconds']) / 60:.0f} minutes once installed ([by stage]({TIMES.as_posix()}))"
    rows = (
        ("first start: 200 packages from `requirements.lock`", "about 2 to 3 minutes with a good network, 6.7 GB"),
        ("`python3 run_all.py`", minutes),
        ("the same again, nothing changed", "under 3 seconds"),
        ("`python3 run_all.py test`", "about 40 minutes"),
    )
    return markdown(("step", "two CPU cores, no GPU"), rows)


def attainable_table(numbers: Numbers) -> str:
    """The best AUC that anybody could reach in the simulated cohort, beside what the studies published."""
    rows = [
        (name, numbers[f"attainable_{key}_primary_auc"]["text"], _published(study, model))
        for name, key, study, model in ATTAINABLE_ROWS
    ]
    known, published = "attainable AUC (**simulated**, known)", "published AUC (real, other patients)"
    return markdown(("what is shown", known, published), rows)


def _published(study: str, model: str) -> str:
    """On the study's test patients."""
    figure = published_value(study, model, "test")
    return "not available" if figure is None or figure.value is None else f"{figure.value:.3f}"


def real_table(numbers: Numbers, rows: tuple[tuple[str, str], ...]) -> str:
    """A public cohort's numbers."""
    return "\n".join(
        ["| real patients | |", "|---|---|", *(f"| {name} | {numbers[key]['text']} |" for name, key in rows)]
    )


def readme_blocks(root: Path) -> dict[str, str]:
    """{NAME: markdown} of every block, from the committed files."""
    simulated = _read(root / SIMULATED)
    return {
        "times": times_table(root),
        "simulated-demo": simulated_table(simulated),
        "attainable": attainable_table(simulated),
        "duke-demo": real_table(_read(root / REAL / "duke-demo.json"), DUKE_ROWS),
        "breast-lesions-usg-demo": real_table(_read(root / REAL / "breast-lesions-usg-demo.json"), BREAST_ROWS),
    }


def filled_readme(text: str, blocks: Mapping[str, str]) -> str:
    """README text with every block filled. ValueError for a block that nobody makes, or one that README lacks."""
    asked = re.findall(r"<!-- numbers: (\S+) -->", text)
    if sorted(asked) != sorted(blocks):
        raise ValueError(f"README asks for {asked}, there are {sorted(blocks)}")

    def fill(found: re.Match) -> str:
        return f"<!-- numbers: {found[1]} -->\n{blocks[found[1]]}\n<!-- end -->"

    return re.sub(r"<!-- numbers: (\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def _read(path: Path) -> Numbers:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Rewrite README.md in place."""
    root = repository_root()
    readme = root / "README.md"
    write_text(filled_readme(readme.read_text(encoding="utf-8"), readme_blocks(root)), readme)


if __name__ == "__main__":
    main()
