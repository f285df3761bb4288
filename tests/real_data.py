"""Where the real data lie for the tests that read them; such a test is skipped, with the reason, where they are absent.

Not a test module. The data may not be committed: see data_manifest.csv for the sources.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alnlib.paths import repository_root


def real_data(*parts: str) -> Path:
    """Path below the real-data folder: ALN_REAL_DATA, or shared/data beside the checkout. Skips the test if it is absent."""
    override = os.environ.get("ALN_REAL_DATA")
    folder = Path(override) if override else repository_root().parent / "shared" / "data"
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data absent: {path} (set ALN_REAL_DATA to a folder that holds {'/'.join(parts)})")
    return path
