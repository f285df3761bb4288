"""Networks on stills and MRI that are kept, with the crops they ask for, and read back to the same bit.

One file of tensors and plain values per model, read with weights_only, and what a card says of it (`alnlib.models.cards`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.files import atomic_path, sha256_file
from alnlib.imaging import lesions
from alnlib.imaging.spec import CropSpec
from alnlib.models.cards import FINE_TUNED, FROZEN, model_card
from alnlib.models.frozen import FrozenSpec, LinearHead, frozen_features
from alnlib.models.weights import read_tensors
from alnlib.training.fit import FittedClassifier, from_plain, predict_logits, to_plain

PARAMETERS = "parameters.pt"
HEAD = ("mean_", "scale_", "coef_")


@dataclass(frozen=True, eq=False)
class KeptNetwork:
    """A fitted model of one modality.

    crops: what it sees of a patient, several crops side by side; frozen: the network that is read as it is, or None; members:
    the linear heads on it, or the fine-tuned networks, whose mean logit is the model's.
    """

    crops: tuple[CropSpec, ...]
    frozen: FrozenSpec | None
    members: Sequence[LinearHead] | Sequence[FittedClassifier]

    def usable(self, images: pd.DataFrame) -> pd.DataFrame:
        """The rows that are scored, in their order: those from which every crop can be cut (`lesions.usable_images`)."""
        rows = [lesions.usable_images(images, crop) for crop in self.crops]
        everybody = set.intersection(*(set(each["patient_id"]) for each in rows))
        return rows[0][rows[0]["patient_id"].isin(everybody)]

    def logits(self, images: pd.DataFrame, root: str | Path) -> tuple[pd.DataFrame, np.ndarray]:
        """The rows scored, those of a patient one after another, and their logits (n, members).

        images: table of a cohort; root: its folder. Raises InputError for an image that cannot be read.
        """
        patients = self.usable(images)["patient_id"].unique()
        units = pd.DataFrame({"patient_id": patients}).merge(self.usable(images), on="patient_id")
        crops = [lesions.crop(images, root, crop, patients) for crop in self.crops]
        if self.frozen is None:
            return units, np.column_stack([predict_logits(member, crops[0]) for member in self.members])
        features = np.hstack([frozen_features(pixels, self.frozen) for pixels in crops])
        return units, np.column_stack([head.decision_function(features) for head in self.members])

    def keep(
        self,
        folder: str | Path,
        cohort: Cohort,
        endpoint: str,
        trained: pd.DataFrame,
        unseen: pd.DataFrame,
        **named: str,
    ) -> dict[str, Any]:
        """`save` into the folder; returns the whole card, of which `cards.model_card` makes the rest."""
        return model_card(cohort, endpoint, trained, unseen, **named) | self.save(folder)

    def save(self, folder: str | Path) -> dict[str, Any]:
        """Write the parameters, whole or not at all; returns the further entries of the card, with their SHA-256."""
        if self.frozen is None:
            members = [to_plain(member) for member in self.members]
        else:
            members = [
                {name: torch.from_numpy(np.ascontiguousarray(getattr(head, name))) for name in HEAD}
                | {"intercept_": float(head.intercept_)}
                for head in self.members
            ]
        content, path = io.BytesIO(), Path(folder) / PARAMETERS
        torch.save({"members": members}, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getvalue())
        frozen = None if self.frozen is None else asdict(self.frozen)
        return {
            "kind": FINE_TUNED if frozen is None else FROZEN,
            "crops": [crop.to_json() for crop in self.crops],
            "frozen": frozen,
            "parameters": {"file": PARAMETERS, "sha256": sha256_file(path), "torch": torch.__version__},
        }


def read_kept(folder: str | Path, card: Mapping[str, Any]) -> KeptNetwork:
    """The network of a card. Raises InputError if its parameters are missing, damaged, or not those of the card."""
    path = Path(folder) / PARAMETERS
    if not path.is_file():
        raise InputError(f"{path} is missing; copy it beside its card, or run the stage that keeps it again")
    found, expected = sha256_file(path), card["parameters"]["sha256"]
    if found != expected:
        raise InputError(
            f"{path}: sha256 is {found[:12]}..., its card says {expected[:12]}...; it is damaged or another model's"
        )
    members = read_tensors(path, "run the stage that keeps it again")["members"]
    crops = tuple(CropSpec(**settings) for settings in card["crops"])
    if card["frozen"] is None:
        return KeptNetwork(crops, None, [from_plain(member) for member in members])
    return KeptNetwork(crops, FrozenSpec(**card["frozen"]), [_head(member) for member in members])


def _head(plain: Mapping[str, Any]) -> LinearHead:
    head = LinearHead()
    for name in HEAD:
        setattr(head, name, plain[name].numpy())
    head.intercept_, head.classes_ = plain["intercept_"], np.array([0, 1])
    return head
