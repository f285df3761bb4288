"""A bill of materials and a check for known vulnerabilities, of requirements.lock: `python tools/supply_chain.py FOLDER`.

Run for a release, or whenever. Two programs that others keep, from the path or fetched by uvx and not in the lock: cyclonedx-py
writes FOLDER/sbom.cdx.json (CycloneDX), pip-audit FOLDER/vulnerabilities.json. Where pip-audit cannot reach its database it looks
at nothing and ends well; here that is told, with exit status 3. Known vulnerabilities are status 1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PACKAGE_OF = {"cyclonedx-py": "cyclonedx-bom", "pip-audit": "pip-audit"}

VULNERABLE, NO_TOOL, NOT_CHECKED = 1, 2, 3
"""Exit statuses beside 0."""


def run_tool(tool: str, *arguments: str) -> subprocess.CompletedProcess:
    """One of `PACKAGE_OF`, from the path or by uvx. Raises FileNotFoundError if neither is there."""
    found = shutil.which(tool)
    command = [found] if found else ["uvx", "--from", PACKAGE_OF[tool], tool]
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


def write_sbom(folder: Path) -> str:
    """Write sbom.cdx.json: every package of the lock with its hashes, equal from call to call. Returns what to say of it."""
    path = folder / "sbom.cdx.json"
    options = ("--output-reproducible", "--of", "JSON", "--pyproject", str(ROOT / "pyproject.toml"), "-o", str(path))
    done = run_tool("cyclonedx-py", "requirements", *options, str(LOCK))
    if done.returncode or not path.is_file():
        return f"no bill of materials: cyclonedx-py says: {_last_line(done.stderr)}"
    content = json.loads(path.read_text(encoding="utf-8"))
    return f"{path}: CycloneDX {content['specVersion']}, {len(content['components'])} packages"


def check_vulnerabilities(folder: Path) -> tuple[int, str]:
    """Write vulnerabilities.json; (exit status, what to say): how many packages were looked up, and what is known of them."""
    path = folder / "vulnerabilities.json"
    done = run_tool(
        "pip-audit", "-r", str(LOCK), "--disable-pip", "--require-hashes", "-f", "json", "--progress-spinner", "off"
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return NOT_CHECKED, f"not checked for vulnerabilities: pip-audit says: {_last_line(done.stderr)}"
    path.write_text(json.dumps(packages, indent=1) + "\n", encoding="utf-8")
    skipped = [package for package in packages if "skip_reason" in package]
    known = [
        f"{package['name']} {package['version']}: {one['id']}"
        for package in packages
        for one in package.get("vulns", [])
    ]
    if known:
        return VULNERABLE, f"{len(known)} known vulnerabilities ({path}):\n" + "\n".join(f"  {line}" for line in known)
    if skipped:
        return NOT_CHECKED, (
            f"not checked for vulnerabilities: {len(skipped)} of {len(packages)} packages could not be looked up "
            f"({skipped[0]['skip_reason']}); run it where the database can be reached"
        )
    return 0, f"no known vulnerability in {len(packages)} packages"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing"])[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Both, and what came of them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    folder = Path(given[0] if given else "release")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        print(write_sbom(folder))
        status, told = check_vulnerabilities(folder)
    except FileNotFoundError:
        print(
            f"neither uvx nor {' and '.join(PACKAGE_OF)} are on the path; install uv, or {' and '.join(PACKAGE_OF.values())}"
        )
        return NO_TOOL
    print(told)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
