"""Expected values for tests/test_radiomics_harmonize.py, from neuroCombat 0.2.12 (MIT).

In an environment of its own (the library is not in requirements.lock):
    python3.11 -m venv venv && venv/bin/pip install neuroCombat==0.2.12 numpy==2.2.6 pandas
    venv/bin/python tests/references/combat/make_references.py
Writes features.csv (60 made-up patients of three centers, eight features, age) and three tables of harmonized features
beside it. neuroCombat stops its iteration at a relative change of 1e-4; here it is told 1e-12, so that digits agree.
"""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent
DIGITS = "%.15g"


def main() -> None:
    rng = np.random.default_rng(20261121)
    center = np.repeat(["Aachen", "Bergen", "Cork"], [28, 20, 12])
    code = np.repeat([0, 1, 2], [28, 20, 12])
    age = rng.uniform(30, 75, 60).round(1)
    biology = rng.normal(size=(60, 1)) * rng.uniform(0.2, 1, 8) + 0.03 * (age[:, None] - 50) * rng.uniform(0, 1, 8)
    shift = rng.normal(0, 0.8, (3, 8)) + np.array([[0.0], [0.7], [-0.5]])
    scale = rng.uniform(0.6, 1.7, (3, 8))
    values = 10 * np.arange(1, 9) + np.arange(1, 9) * (biology + shift[code] + scale[code] * rng.normal(size=(60, 8)))
    features = [f"feature_{k}" for k in range(8)]
    frame = pd.DataFrame(values.round(6), columns=features)
    frame.insert(0, "center", center)
    frame.insert(1, "age", age)
    frame.to_csv(FOLDER / "features.csv", index=False)

    # the package hides its module behind the function of the same name
    module = importlib.import_module("neuroCombat.neuroCombat")
    module.it_sol.__defaults__ = (1e-12,)
    covariates = frame[["center", "age"]]
    for name, continuous in (("neurocombat", None), ("neurocombat_age", ["age"])):
        result = module.neuroCombat(frame[features].to_numpy().T, covariates, "center", continuous_cols=continuous)
        pd.DataFrame(result["data"].T, columns=features).to_csv(
            FOLDER / f"{name}.csv", index=False, float_format=DIGITS
        )

    # the first 45 rows of a fixed shuffle are training patients, the others are transformed as new ones
    training = np.random.default_rng(1).permutation(60)[:45]
    test = np.setdiff1d(np.arange(60), training)
    trained = module.neuroCombat(frame.loc[training, features].to_numpy().T, covariates.loc[training], "center")
    applied = module.neuroCombatFromTraining(
        frame.loc[test, features].to_numpy().T, frame.loc[test, "center"].to_numpy(), trained["estimates"]
    )
    harmonized = pd.DataFrame(applied["data"].T, columns=features)
    harmonized.insert(0, "row", test)
    harmonized.to_csv(FOLDER / "neurocombat_new_patients.csv", index=False, float_format=DIGITS)


if __name__ == "__main__":
    main()
