"""How long the tests take, file by file: `python benchmarks/test_times.py`.

Runs `run_all.py test` in this repository and writes test_times.csv beside this file: tests and seconds of each file, the
slowest first, of which two run side by side, and the wall seconds of the whole command. The exit status is that of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from alnlib.files import write_csv
from alnlib.paths import repository_root

WHOLE = "whole command"


def times_by_file(report: Path) -> pd.DataFrame:
    """file, tests, seconds from a JUnit report of pytest, the slowest first; setup and teardown are in."""
    cases = [case.attrib for case in ElementTree.parse(report).iter("testcase")]
    named = [
        (case["classname"] or case["name"]).split(".")[1] for case in cases
    ]  # a file that is skipped whole has no class
    rows = pd.DataFrame({"file": named, "seconds": [float(case["time"]) for case in cases]})
    table = rows.groupby("file")["seconds"].agg(tests="size", seconds="sum").reset_index()
    return table.sort_values(["seconds", "file"], ascending=[False, True])


def main() -> int:
    """Run the tests and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        report, begun = Path(folder) / "report.xml", time.monotonic()
        command = [sys.executable, "run_all.py", "test", f"--junitxml={report}"]
        status = subprocess.call(command, cwd=repository_root())
        whole = {"file": WHOLE, "seconds": time.monotonic() - begun}
        table = times_by_file(report)
    table = pd.concat([table, pd.DataFrame([whole | {"tests": table["tests"].sum()}])]).round({"seconds": 1})
    head = ["git", "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.run(head, cwd=repository_root(), check=True, capture_output=True, text=True).stdout.strip()
    about = {"cores": os.cpu_count(), "date": date.today().isoformat(), "commit": commit}
    write_csv(table.assign(**about), Path(__file__).with_suffix(".csv"))
    return status


if __name__ == "__main__":
    sys.exit(main())
