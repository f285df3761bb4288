"""The report of a run as pages. Truth: the run's own tables, and the kept equations of `alnlib.kept` for the risk page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from markupsafe import escape
from PIL import Image
from scipy.special import expit

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError
from alnlib.files import write_json
from alnlib.kept.equation import Equation
from alnlib.models.clinical import INTERCEPT
from alnlib.models.fusion import logits
from alnlib.paths import repository_root
from alnlib.pipeline.cli import main
from alnlib.pipeline.results import RunFolder
from alnlib.report.site import FIRST_PAGE, figures
from alnlib.report.site.build import write_site
from alnlib.report.site.models import STATIC, risk_models, run_cards
from tests.pages import Page, faults
from tests.test_site_explorer import node

RUN = "simulated-demo"
MARKUP = "<b>x</b>"
LVI = ClinicalVariable("Lymphovascular invasion (core biopsy)", "nominal", levels=("absent", "present"))
SIZE = ClinicalVariable("Tumor size", "continuous", unit="mm")
SCORE = ClinicalVariable("logit DL_US", "continuous", unit="logit")


def equation(intercept: float, *terms: tuple[str, str, float, float | None], **variables: ClinicalVariable) -> Equation:
    """terms: variable, feature, coefficient, missing_as."""
    rows = [(INTERCEPT, INTERCEPT, intercept, None), *terms]
    table = pd.DataFrame(rows, columns=["variable", "feature", "coefficient", "missing_as"]).astype(
        {"missing_as": float}
    )
    return Equation(table, variables)


LVI_TERM = (LVI.label, f"{LVI.label}: present", 0.87, 0.0)
ONE = equation(-0.77, LVI_TERM, lvi=LVI)
BOTH = equation(-0.9, LVI_TERM, (SIZE.label, SIZE.label, 0.02, 21.0), lvi=LVI, size_mm=SIZE)
FUSED = equation(0.1, ("logit DL_US", "logit DL_US", 1.1, None), LVI_TERM, DL_US=SCORE, lvi=LVI)
ALONE = equation(0.2, ("logit DL_US", "logit DL_US", 0.9, None), DL_US=SCORE)


def keep(folder: Path, model: str, kind: str, parameters: object) -> None:
    """A kept model as far as the pages read one."""
    endpoint = {
        "name": "aln_metastasis",
        "label": "Axillary lymph node metastasis",
        "positive": "pN+",
        "negative": "pN0",
    }
    cohort = {
        "name": "simulated",
        "title": "Simulated",
        "provenance": "simulated",
        "license": "CC-BY-4.0",
        "citation": "-",
    }
    trained = {"splits": ["train"], "patients": 157, "rows": 157, "positive_rows": 58}
    card = {
        "model": model,
        "study": "tang",
        "kind": kind,
        "endpoint": endpoint,
        "cohort": cohort,
        "trained_on": trained,
    }
    card |= {
        "threshold": 0.42,
        "asks_for": [f"an id such as {MARKUP}"],
        "limits": ["few patients"],
        "notice": "research",
    }
    write_json(card | {"parameters": {"file": "parameters.json", "sha256": "-"}}, folder / "card.json")
    write_json(parameters, folder / "parameters.json")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The committed run with kept models, and with a patient called MARKUP in what a notebook printed."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(repository_root() / "results" / RUN, folder / RUN, ignore=shutil.ignore_patterns("models", "site"))
    keep(folder / RUN / "models/clinical/clinical", "clinical", "equation", ONE.to_json())
    keep(folder / RUN / "models/clinical/both", "both", "equation", BOTH.to_json())
    answers = {name: name for name in ("DL_US", "DL_US+clinical", "nothing")} | {"clinical": "nothing"}
    fused = {"answers": answers, "prevalence": 0.37, "submodels": {"DL_US+clinical": FUSED.to_json()}}
    fused["submodels"]["DL_US"] = ALONE.to_json()
    keep(folder / RUN / "models/fusion/both", "fused", "fusion", fused)
    keep(folder / RUN / "models/longitudinal_mri/DLR", "DLR", "features", {})
    described = yaml.safe_load((Path(figures.__file__).with_name("figures.yaml")).read_text(encoding="utf-8"))
    for name in (
        name.replace("*", "tang") for name in described
    ):  # what git leaves out is stood in for by a small picture
        if not (folder / RUN / "figures" / name).exists():
            Image.new("L", (40, 30)).save(folder / RUN / "figures" / name)
        path = folder / RUN / "figures" / name.replace(".png", ".svg")
        path.write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><title>{name}</title></svg>")
    path = folder / RUN / "notebooks/11_cohort.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    table = f"<table><thead><tr><th>who</th></tr></thead><tbody><tr><td>{MARKUP.replace('<', '&lt;')}</td></tr></tbody></table>"
    rows = "<table><thead><tr><th>patient_id</th></tr></thead><tbody><tr><td>SIM-0007</td></tr></tbody></table>"
    shown = [{"text/html": table}, {"text/html": rows}, {"text/markdown": f"*{MARKUP}*"}, {"text/plain": "of SIM-0007"}]
    outputs = [{"output_type": "display_data", "data": data, "metadata": {}} for data in shown]
    outputs.append({"output_type": "stream", "name": "stdout", "text": f"patient {MARKUP} <script>alert(1)</script>"})
    source = '# Parameters\ndata = "/home/somebody/data"\nn_patients = 3'
    notebook["cells"].append({"cell_type": "code", "source": source, "outputs": outputs, "metadata": {}})
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(results) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALN_RESULTS", str(results))
        return write_site(RUN).parent


def test_every_link_resolves_and_nothing_is_loaded_from_outside(site):
    assert faults(site) == []


def test_it_is_small_and_every_notebook_table_and_model_has_its_page(site, results):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 10e6
    for notebook in (results / RUN / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{notebook.stem}.html").is_file()
    assert (site / "models/clinical-clinical.html").is_file()
    claims = (results / RUN / "report/claims.csv").read_bytes()
    assert (site / "tables/report/claims.csv").read_bytes() == claims


def test_the_board_counts_what_the_ledger_holds(site, results):
    verdicts = pd.read_csv(results / RUN / "report/claims.csv")["verdict"]
    page = (site / "index.html").read_text(encoding="utf-8")
    for verdict, count in verdicts.value_counts().items():
        assert f"<b>{count}</b>{verdict}" in page
    assert page.count('class="tile ') == len(verdicts)


def test_what_patients_are_called_is_text_and_their_rows_stay_out(site):
    for path in site.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert MARKUP not in page and "<script>alert" not in page, path
        assert "SIM-0007" not in page, path
    cohort = (site / "notebooks/11_cohort.html").read_text(encoding="utf-8")
    assert "n_patients" in cohort and "somebody" not in cohort
    assert cohort.count("&lt;b&gt;x&lt;/b&gt;") == 3 and "of [patient]" in cohort
    assert "&lt;b&gt;x&lt;/b&gt;" in (site / "models/clinical-clinical.html").read_text(encoding="utf-8")
    assert not any("patient_id" in path.read_text(encoding="utf-8").partition("\n")[0] for path in site.rglob("*.csv"))


def test_figures_say_what_they_show_and_where_their_numbers_are(site):
    page = Page((site / "figures.html").read_text(encoding="utf-8"))
    assert page.silent_images == 0
    assert page.tags.count("figure") == page.tags.count("figcaption") > 15
    assert sum(link.endswith(".csv") for link in page.links) >= page.tags.count("figure")


def test_every_figure_leads_to_its_svg_in_the_run_or_in_pages_that_stand_alone(site, results, tmp_path, monkeypatch):
    """`faults` finds links that lead nowhere; those of pages to publish must not leave their folder either."""
    shown = [path.stem for path in (site / "figures").iterdir()]
    assert not list(site.rglob("*.svg"))
    for page in (site / "figures.html", *site.glob("notebooks/*.html")):
        links = Page(page.read_text(encoding="utf-8")).links
        drawn = {(page.parent / link).resolve() for link in links if link.endswith(".svg")}
        assert drawn <= set((results / RUN / "figures").glob("*.svg")), page
        assert page.parent != site or sorted(path.stem for path in drawn) == sorted(shown)

    monkeypatch.setenv("ALN_RESULTS", str(results))
    alone = write_site(RUN, tmp_path / "alone").parent
    assert faults(alone) == [] and sorted(path.stem for path in alone.rglob("*.svg")) == sorted(shown)
    for page in alone.rglob("*.html"):
        for link in Page(page.read_text(encoding="utf-8")).links:
            inside = (page.parent / link).resolve().is_relative_to(alone)
            assert inside or link.startswith("https://"), f"{page}: {link}"
    with pytest.raises(InputError, match="choose another with --out"):
        write_site(RUN, alone)


def test_a_nomogram_with_one_variable_says_why(results, site, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(results))
    run = RunFolder(RUN)
    models = {each["name"]: each for each in risk_models(run, run_cards(run))}
    why = models["clinical"]["why_one"][""]
    tested = pd.read_csv(results / RUN / "clinical/univariable.csv").dropna(subset="p_likelihood_ratio")
    assert f"of {tested['variable'].nunique()} that were tested" in why and "p = 0.006" in why and LVI.label in why
    assert escape(why) in (site / "figures.html").read_text(encoding="utf-8")
    assert models["both"]["why_one"][""] == ""
    assert "DL_US is all that is known" in models["fused"]["why_one"]["DL_US"]


def test_the_risk_page_says_why_a_model_on_images_is_not_there_and_leads_to_its_card(site):
    page = (site / "risk.html").read_text(encoding="utf-8")
    assert '"name":"DLR"' not in page and '"name":"fused"' in page
    without = page.partition("Models without a nomogram")[2].partition("</ul>")[0]
    assert Page(without).links == ["models/longitudinal_mri-DLR.html"] and (site / Page(without).links[0]).is_file()
    assert "nobody can type in" in without and "Networks" not in without, "there is none in this run"


def test_the_risk_page_computes_what_the_kept_models_do(results, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(results))
    run = RunFolder(RUN)
    models = {each["name"]: each for each in risk_models(run, run_cards(run))}
    rng = np.random.default_rng(4)
    n = 60
    patients = pd.DataFrame({"lvi": rng.choice(["absent", "present", None], n), "size_mm": rng.uniform(4, 60, n)})
    patients.loc[rng.random(n) < 0.3, "size_mm"] = np.nan
    patients["DL_US"] = rng.uniform(0, 1, n)
    patients.loc[rng.random(n) < 0.2, "DL_US"] = np.nan
    values = patients.astype(object).where(patients.notna(), None).to_dict("records")
    script = f"""const R = require({json.dumps(str(STATIC / "risk.js"))});
        console.log(JSON.stringify(given.models.map((m) => given.values.map((v) => R.risk(m, v).probability))))"""
    names = ["clinical", "both", "fused"]
    one, both, fused = node(script, {"models": [models[name] for name in names], "values": values})
    assert one == pytest.approx(expit(ONE.logits(patients)), rel=1e-12)
    assert both == pytest.approx(expit(BOTH.logits(patients)), rel=1e-12)
    scored = patients.assign(DL_US=logits(patients["DL_US"]))
    expected = np.where(scored["lvi"].isna(), expit(ALONE.logits(scored)), expit(FUSED.logits(scored)))
    assert fused == pytest.approx(np.where(scored["DL_US"].isna(), 0.37, expected), rel=1e-12)


def test_points_of_the_nomogram_are_those_of_the_run(results, monkeypatch):
    """clinical/nomogram.csv, made by alnlib.models.nomogram from the fitted model that the run's equation stands for."""
    table = pd.read_csv(results / RUN / "clinical/nomogram.csv")
    terms = pd.read_csv(results / RUN / "clinical/model.csv")
    own = equation(terms["coefficient"][0], (*LVI_TERM[:2], terms["coefficient"][1], 0.0), lvi=LVI)
    keep(results / RUN / "models/clinical/clinical", "clinical", "equation", own.to_json())
    monkeypatch.setenv("ALN_RESULTS", str(results))
    run = RunFolder(RUN)
    (model,) = (each for each in risk_models(run, run_cards(run)) if each["name"] == "clinical")
    script = f"""const R = require({json.dumps(str(STATIC / "risk.js"))});
        const {{scales, perLogit, baseline}} = R.scales(given.model, "");
        console.log(JSON.stringify([scales[0].effects.map((e) => (e - scales[0].least) * perLogit),
            given.p.map((p) => (Math.log(p / (1 - p)) - baseline) * perLogit)]))"""
    probabilities = table[table["axis"] == "Probability"]
    points, totals = node(script, {"model": model, "p": probabilities["value"].tolist()})
    assert points == pytest.approx(table.loc[table["axis"] == LVI.label, "points"].tolist())
    assert totals == pytest.approx(probabilities["points"].tolist(), abs=1e-4)


def test_the_verb_writes_the_pages_and_names_what_is_missing(results, monkeypatch, capsys):
    monkeypatch.setenv("ALN_RESULTS", str(results))
    (results / "empty").mkdir(exist_ok=True)
    assert main(["report", "empty"]) == 2
    assert "results/empty holds no cohort" in capsys.readouterr().err
    shutil.rmtree(results / RUN / "site", ignore_errors=True)
    assert main(["report", RUN]) == 0
    assert (results / RUN / FIRST_PAGE).is_file() and FIRST_PAGE in capsys.readouterr().out
