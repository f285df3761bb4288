#!/usr/bin/env python3
"""Reproduce the ALN compendium.

    python3 run_all.py              build .venv on the first run, then reproduce results/simulated-demo
    python3 run_all.py test         every test, the same that continuous integration runs
    python3 run_all.py run --cohort duke --data DIR      a real cohort
    python3 run_all.py --list       the stages: what is fresh, what is stale and why
    python3 run_all.py --run try --set 22.seed=7         a scratch run in results/try; no reference run changes
    python3 run_all.py verify [RUN [OTHER]]              a run against the committed one, or two side by side
    python3 run_all.py report [RUN]                      its pages: verdicts, explorer, risk, notebooks, tables
    python3 run_all.py clean [RUN]                       what may go to free space
    python3 run_all.py evaluate predictions.csv          tables and figures for anybody's predictions
    python3 run_all.py apply MODEL --cohort PATH         a model that a run kept, on new patients
    python3 run_all.py new-cohort PATH --dicom DIR --table SHEET         a hospital's folder as a cohort
    python3 run_all.py validate PATH | download COHORT --data DIR | lab | completion bash | --version

Needs only Python 3.11 with its venv module, and a C compiler for pyradiomics. `--help` after any verb tells more.
"""

import sys

from alnlib.arithmetic import use_reference_arithmetic
from alnlib.pipeline.bootstrap import ensure_environment

if __name__ == "__main__":
    ensure_environment(sys.argv[1:], usage=__doc__)
    use_reference_arithmetic()
    from alnlib.pipeline.cli import main

    sys.exit(main(sys.argv[1:]))
