"""Fill README.md and the pages of docs/ with numbers that runs wrote: `python -m alnlib.report.readme`; a test compares.

Text between a `<!-- numbers: NAME -->` and the next `<!-- end -->` is rendered from readme_blocks.md.jinja, the rest is its
authors'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from alnlib.files import write_text
from alnlib.paths import repository_root
from alnlib.pipeline.verify import classes, tolerances
from alnlib.report.claims import CANNOT, VERDICTS
from alnlib.report.story import short_story
from alnlib.studies import STUDIES, published_value

STATES = ["identical", "within tolerance", "changed"]
BLOCKS = Path(__file__).with_name("readme_blocks.md.jinja")
BLOCK = re.compile(r"<!-- numbers: (\S+) -->\n(.*?)\n?<!-- end -->", re.DOTALL)

SIMULATED = Path("results/simulated-demo/report/numbers.json")
PUBLISHED = Path("results/simulated-published/report")
TIMES = Path("benchmarks/stage_times.csv")
PUBLISHED_TIMES = Path("benchmarks/published_times.csv")
TEST_TIMES = Path("benchmarks/test_times.csv")
NEWCOMER_TIMES = Path("benchmarks/newcomer.csv")
COHORTS = Path("benchmarks/models_over_cohorts.csv"), Path("benchmarks/claims_over_cohorts.csv")
ARITHMETIC = Path("benchmarks/arithmetic.csv")
"""What `run_all.py verify --table` wrote of a whole run on another processor; the page does without it."""
REAL = Path("tests/references/runs")
"""numbers.json of the runs on public cohorts, which are not committed themselves."""


def number_blocks(root: Path) -> dict[str, str]:
    """{NAME: markdown} of every block, from the committed files."""
    simulated, at_size = _read(root / SIMULATED), _read(root / PUBLISHED / "numbers.json")

    def at_published_size(study: str, model: str) -> str:
        """AUC on the study's test patients, the true one, the attainable, the external one; empty where there is none."""
        kinds = ("test", "population", "population_attainable", "external")
        keys = [f"{study}_{model}_{kind}_auc" for kind in kinds]
        return " | ".join(at_size[key]["text"] if key in at_size else "" for key in keys)

    def reached(study: str, model: str) -> str:
        """The same, and the demo's test AUC."""
        return f"{at_published_size(study, model)} | {simulated[f'{study}_{model}_test_auc']['text']}"

    def minutes(path: Path) -> int:
        """Of all together, the newest."""
        times = pd.read_csv(root / path)
        return round(times.loc[times.iloc[:, 0].str.startswith("whole"), "seconds"].iloc[0] / 60)

    walked = pd.read_csv(root / NEWCOMER_TIMES).set_index("step")

    def took(step: str) -> str:
        """Of a command of the newcomer's path, as one tells it: "20 s", or whole minutes from 100 s."""
        seconds = walked.loc[step, "seconds"]
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"

    def published(study: str, model: str) -> str:
        """AUC of the study's test patients."""
        figure = published_value(study, model, "test")
        return "not available" if figure is None or figure.value is None else f"{figure.value:.3f}"

    duke, ispy2 = _read(root / REAL / "duke-demo.json"), _read(root / REAL / "ispy2-demo.json")

    def measured(what: str, as_what: str = "held_out_auc", *, apcr: bool = False, of_ispy2: bool = False) -> str:
        """A number of stages 28 and 29, their twin or their resplits; empty where the cohort has no such model."""
        numbers, study = ispy2 if of_ispy2 else duke, "feature-table-apcr" if apcr else "feature-table"
        named = {
            "twin": f"validity_{study}: radiomics_permuted_auc",
            "resplit": f"validity_{study}: radiomics_resplit_auc",
        }
        key = named.get(what, f"{study}_{what}_{as_what}")
        if what == "patients":
            return f"{numbers[f'{study}_patients']['text']}, {numbers[f'{study}_positive']['text']}"
        return numbers[key]["text"] if key in numbers else ""

    text = jinja2.Template(BLOCKS.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined).render(
        minutes=minutes(TIMES),
        published_minutes=minutes(PUBLISHED_TIMES),
        test_minutes=minutes(TEST_TIMES),
        took=took,
        walked=walked.iloc[0],
        simulated=simulated,
        at_size=at_size,
        story=short_story(*(pd.read_csv(root / PUBLISHED / name) for name in ("claims.csv", "design.csv"))).strip(),
        at_published_size=at_published_size,
        reached=reached,
        studies=STUDIES,
        published=published,
        classes=classes(),
        tolerances=tolerances,
        other=_other_processor(root / ARITHMETIC),
        cohorts=_over_cohorts(*(root / path for path in COHORTS)),
        duke=duke,
        measured=measured,
        breast=_read(root / REAL / "breast-lesions-usg-demo.json"),
    )
    return dict(BLOCK.findall(text))


def _over_cohorts(models: Path, claims: Path) -> dict[str, Any]:
    """What many cohorts said of intervals, shares and verdicts (benchmarks/over_cohorts.py)."""
    by_model = pd.read_csv(models)
    by_claim = pd.read_csv(claims).query("kind == 'better'")
    tested = by_claim[by_claim[CANNOT] < by_claim["cohorts"] / 2]
    decided = [tested[f"{prefix}{verdict}"].sum() for prefix in ("", "population: ") for verdict in VERDICTS[:2]]
    judged = [tested[[f"{prefix}{verdict}" for verdict in VERDICTS[:3]]].sum().sum() for prefix in ("", "population: ")]
    names = ["supported", "not_supported", "population_supported", "population_not_supported"]
    found = dict(zip([*names, "judged", "population_judged"], [*decided, *judged], strict=True))
    found |= {name: tested[name].sum() for name in ("both_decided", "agreed", "found")}
    shares = by_model.set_index(["study", "model"])
    return {name: int(value) for name, value in found.items()} | {"all": shares.loc[("all", "all")], "of": shares.loc}


def _other_processor(path: Path) -> dict[str, Any] | None:
    """What a comparison of `run_all.py verify --table` came to; None if there is no such file."""
    if not path.exists():
        return None
    table = pd.read_csv(path).set_index("what")
    verdicts, aucs = table.loc["verdicts"], table.loc["AUC of test patients"]
    files = table.drop(["verdicts", "AUC of test patients"])
    counts = pd.crosstab(files["class"], files["state"]).reindex(columns=STATES, fill_value=0)
    named = ["committed_processor", "committed_arithmetic", "processor", "arithmetic"]
    return {"files": counts.T.to_dict(), "verdicts": verdicts, "aucs": aucs, **verdicts[named]}


def read_pages(root: Path) -> dict[str, str]:
    """{path from the root: text} of README.md and docs/*.md."""
    paths = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def filled_pages(pages: Mapping[str, str], blocks: Mapping[str, str]) -> dict[str, str]:
    """The pages with every block filled. ValueError for a block that nobody makes, or one that stands in no page or in two."""
    asked = [name for text in pages.values() for name in re.findall(r"<!-- numbers: (\S+) -->", text)]
    if sorted(asked) != sorted(blocks):
        raise ValueError(f"the pages ask for {sorted(asked)}, there are {sorted(blocks)}")
    return {
        path: BLOCK.sub(lambda found: f"<!-- numbers: {found[1]} -->\n{blocks[found[1]]}\n<!-- end -->", text)
        for path, text in pages.items()
    }


def _read(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Rewrite the pages in place."""
    root = repository_root()
    for path, text in filled_pages(read_pages(root), number_blocks(root)).items():
        write_text(text, root / path)


if __name__ == "__main__":
    main()
