"""Write the pages of the programming interface from the docstrings: `.venv/bin/python tools/api_pages.py [FOLDER]`.

FOLDER is build/api, which git ignores. pdoc makes them; it is pinned here and kept beside the environment (build/pdoc), because
nothing else needs it. What it depends on otherwise stands in requirements.lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("alneval", "alnlib", "alnsim")
PINS = """\
markdown2==2.5.5 \\
    --hash=sha256:001547e68f6e7fcf0f1cb83f7e82f48aa7d48b2c6a321f0cd20a853a8a2d1664 \\
    --hash=sha256:be798587e09d1f52d2e4d96a649c4b82a778c75f9929aad52a2c95747fa26941
pdoc==16.0.0 \\
    --hash=sha256:070b51de2743b9b1a4e0ab193a06c9e6c12cf4151cf9137656eebb16e8556628 \\
    --hash=sha256:fdadc40cc717ec53919e3cd720390d4e3bcd40405cb51c4918c119447f913514
"""


def main() -> int:
    """Status of pdoc, or of pip where pdoc cannot be had."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "api")
    kept = ROOT / "build" / "pdoc"
    if not (kept / "pdoc").is_dir():
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "pins.txt").write_text(PINS, encoding="utf-8")
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", str(kept)]
        if status := subprocess.run([sys.executable, *install, "-r", str(kept / "pins.txt")]).returncode:
            return status
    paths = os.pathsep.join([str(kept), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore"]  # of annotations that only a type checker can resolve
    command += ["-m", "pdoc", "--no-show-source", "--output-directory", str(folder), *PACKAGES]
    if status := subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}).returncode:
        return status
    print(folder / "index.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
