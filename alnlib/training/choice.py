"""Several networks fitted to the same patients: their histories in one table, and the one that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from alnlib.models.cnn2d import parameter_count
from alnlib.training.fit import FittedClassifier


def history_table(
    fitted: Mapping[str | tuple[str, ...], FittedClassifier], names: Sequence[str] = ("architecture",)
) -> pd.DataFrame:
    """One row per network and epoch. names: the columns that hold the parts of the keys of `fitted`."""
    return pd.concat([fit.history.assign(**_named(key, names)) for key, fit in fitted.items()])


def choice_table(
    fitted: Mapping[str | tuple[str, ...], FittedClassifier], names: Sequence[str] = ("architecture",)
) -> pd.DataFrame:
    """The kept epoch of each network, the best first, with its number of `parameters` and whether it is `chosen`.

    By validation AUC alone; a tie goes to the smaller validation loss. names: as `history_table`; one network is chosen for
    each value of all but the last.
    """
    kept = [
        fit.history.query("epoch == @fit.best_epoch").assign(
            **_named(key, names), parameters=parameter_count(fit.network())
        )
        for key, fit in fitted.items()
    ]
    groups = list(names[:-1])
    order = [*groups, "validation_auc", "validation_loss"]
    table = pd.concat(kept).sort_values(order, ascending=[*(False for _ in groups), False, True])
    return table.assign(chosen=~table[groups].duplicated() if groups else [True] + [False] * (len(table) - 1))


def _named(key: str | tuple[str, ...], names: Sequence[str]) -> dict[str, str]:
    return dict(zip(names, (key,) if isinstance(key, str) else key, strict=True))
