"""Where heat lies: its share on a node's cortex, margin and surroundings, from a mask and the size of a pixel.

For Park 2024 (Curr Oncol 31:2278), who saw by eye that Grad-CAM trends differ by crop and that margin and adjacent soft
tissue matter too. Maps come from `alnlib.explain.gradcam`; masks, maps and spacings share one grid and axis order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from alnlib.errors import InputError


def node_regions(
    mask: np.ndarray, spacing_mm: Sequence[float], margin_mm: float, cortex_mm: float, name: str = "mask"
) -> dict[str, np.ndarray]:
    """Regions round a node that part the grid between them, as booleans of the mask's shape.

    "core" (deeper than cortex_mm: hilum or necrosis), "cortex" (of the node, at most cortex_mm from its outside), "margin"
    (outside it, at most margin_mm from it), "surroundings" (the rest). Distances run between centers of pixels, to the
    nearest one on the other side, so a ring is not thinner than a pixel; what lies beyond the image is neither side. mask:
    (rows, columns) or (z, y, x), non-zero inside. spacing_mm: per axis, of the *map's* grid: a crop of 50 mm shown in 224
    pixels has 0.223 mm. name: what to call the mask in errors.

    A Grad-CAM map tells apart no less than a cell of its features (50 mm and 7 x 7 cells: 7 mm); rings thinner than this
    share their neighbors' heat. Raises InputError for an empty mask.
    """
    inside = np.asarray(mask) != 0
    spacing = np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (inside.ndim,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"spacing_mm is {spacing_mm}; expected {inside.ndim} positive numbers")
    if margin_mm < 0 or cortex_mm < 0:
        raise ValueError(f"margin_mm ({margin_mm}) and cortex_mm ({cortex_mm}) cannot be negative")
    if not inside.any():
        raise InputError(f"{name}: the mask is empty on this grid; draw the node again or leave the image out")
    margin = ~inside & (distance_transform_edt(~inside, sampling=spacing) <= margin_mm)
    depth = np.full(inside.shape, np.inf) if inside.all() else distance_transform_edt(inside, sampling=spacing)
    cortex = inside & (depth <= cortex_mm)
    return {"core": inside & ~cortex, "cortex": cortex, "margin": margin, "surroundings": ~inside & ~margin}


def heat_by_region(heat: np.ndarray, regions: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per region: heat_share, area_share, concentration = heat_share / area_share.

    heat: (*spatial), not negative; regions: as `node_regions` gives them on the same grid. Shares sum to 1; those of a map
    without heat are NaN. Shares of crops of different extent differ because the regions do: a fixed 50 mm square is mostly
    surroundings, an adjustable one mostly node. Heat spread evenly has the concentration 1 everywhere, whatever the crop;
    compare this. NaN for a region without a pixel. Raises ValueError for other heat, or a map on another grid.
    """
    heat = np.asarray(heat, dtype=np.float64)
    if not np.isfinite(heat).all() or (heat < 0).any():
        raise ValueError("the map holds negative or infinite heat; give it as `grad_cam` returns it")
    shapes = {name: region.shape for name, region in regions.items()}
    if any(shape != heat.shape for shape in shapes.values()):
        raise ValueError(f"the map has shape {heat.shape}, the regions {shapes}; put them on one grid")
    summed = {name: float(heat[region].sum()) for name, region in regions.items()}
    total = sum(summed.values())
    share = pd.Series({name: part / total if total > 0 else np.nan for name, part in summed.items()})
    area = pd.Series({name: float(np.mean(region)) for name, region in regions.items()})
    table = pd.DataFrame({"heat_share": share, "area_share": area, "concentration": share / area.where(area > 0)})
    return table.rename_axis("region")


def heat_table(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    spacing_mm: Sequence[Sequence[float]],
    margin_mm: float,
    cortex_mm: float,
    image_ids: Sequence[str],
) -> pd.DataFrame:
    """`heat_by_region` of many images: columns image_id, region, heat_share, area_share, concentration.

    maps, masks: one (*spatial) per image; spacing_mm: one tuple per image, because an adjustable crop has its own. margin_mm,
    cortex_mm: as `node_regions`. Images of one patient are not independent: take intervals by patient. Raises ValueError if
    numbers differ, InputError naming the image whose mask is empty.
    """
    if not len(maps) == len(masks) == len(spacing_mm) == len(image_ids):
        counts = f"{len(maps)} maps, {len(masks)} masks, {len(spacing_mm)} spacings"
        raise ValueError(f"{counts} and {len(image_ids)} image_ids")
    rows = []
    for image_id, heat, mask, spacing in zip(image_ids, maps, masks, spacing_mm, strict=True):
        regions = node_regions(mask, spacing, margin_mm, cortex_mm, name=f"image {image_id}")
        rows.append(heat_by_region(heat, regions).reset_index().assign(image_id=image_id))
    columns = ["image_id", "region", "heat_share", "area_share", "concentration"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
