"""README.md and the pages of docs/: numbers are those of the committed files, links lead somewhere, README is short."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from alnlib.paths import repository_root
from alnlib.pipeline.committed import committed_files
from alnlib.pipeline.parameters import cell_source, read_notebook
from alnlib.pipeline.stages import STAGES
from alnlib.report.readme import filled_pages, number_blocks, read_pages

ROOT = repository_root()
NUMBERS = "results/simulated-demo/report/numbers.json"
SOURCES = (NUMBERS, "results/simulated-published/report", "benchmarks", "tests/references/runs")
PAGES = read_pages(ROOT)
LINKED = PAGES | {"CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
for notebook in sorted((ROOT / "notebooks" / "lessons").glob("*.ipynb")):
    prose = [cell_source(cell) for cell in read_notebook(notebook)["cells"] if cell["cell_type"] == "markdown"]
    LINKED[notebook.relative_to(ROOT).as_posix()] = "\n\n".join(prose)
README_WORDS = 1500


def as_committed(folder: Path) -> Path:
    """A folder with what the numbers come from, of git's HEAD; without git the repository, which is then as committed."""
    files = committed_files(ROOT, *SOURCES)
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder if files else ROOT


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_show_the_numbers_that_the_runs_wrote(tmp_path):
    """Those of the committed run, whatever a run on this machine left here; before a commit those that will be committed."""
    shown = [filled_pages(PAGES, number_blocks(root)) for root in (as_committed(tmp_path), ROOT)]
    assert PAGES in shown, "run `python -m alnlib.report.readme`"


def test_pages_do_not_follow_a_run_that_is_not_committed(tmp_path):
    """Another AUC in the working tree's numbers would make other pages; the committed files do not."""
    committed = as_committed(tmp_path / "head")
    rerun = (
        Path(shutil.copytree(committed, tmp_path / "rerun")) if committed != ROOT else pytest.skip("no git checkout")
    )
    path = rerun / NUMBERS
    numbers = json.loads(path.read_text(encoding="utf-8"))
    numbers["tang_DL_US_test_auc"]["text"] = "0.999 (0.998 to 1.000)"
    path.write_text(json.dumps(numbers), encoding="utf-8")
    pages = filled_pages(PAGES, number_blocks(rerun))
    assert "0.999 (0.998 to 1.000)" in pages["docs/results.md"]
    assert pages != filled_pages(pages, number_blocks(committed))


@pytest.mark.parametrize(
    "pages", [{}, {"a.md": "<!-- numbers: one -->\n<!-- end -->" * 2}, {"a.md": "<!-- numbers: two -->"}]
)
def test_a_block_stands_in_one_page_and_somebody_fills_it(pages):
    with pytest.raises(ValueError, match="the pages ask for"):
        filled_pages(pages, {"one": "1"})


def test_readme_is_short():
    """As `wc -w` counts, the blocks of numbers included."""
    assert len(PAGES["README.md"].split()) <= README_WORDS


def test_the_notebooks_page_names_every_notebook_and_no_other():
    named = set(re.findall(r"notebooks/(\w+)\.ipynb", PAGES["docs/notebooks.md"]))
    assert named == {stage.source_notebook for stage in STAGES}


@pytest.mark.parametrize("path", LINKED)
def test_relative_links_lead_to_a_file_and_its_heading(path):
    found = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", LINKED[path])
    found += [(picture, "") for picture in re.findall(r'<img src="([^"]*)"', LINKED[path])]
    for target, heading in found:
        file = ((ROOT / path).parent / target).resolve() if target else ROOT / path
        assert file.exists(), target
        if heading:
            assert heading in anchors(file.read_text(encoding="utf-8")), f"{target}#{heading}"


@pytest.mark.parametrize("path", [path for path in PAGES if path != "README.md"])
def test_a_page_says_what_it_is_and_for_whom_and_readme_leads_to_it(path):
    title, empty, whom = PAGES[path].splitlines()[:3]
    assert title.startswith("# ") and not empty and re.fullmatch(r"\*For .+\.\*", whom)
    assert f"({path}" in PAGES["README.md"] or any(f"({Path(path).name}" in text for text in PAGES.values())
