"""Files of a run as they are committed, read from git and never from the working tree, which a run may have changed."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path


def committed_files(root: Path, *paths: str) -> dict[str, bytes] | None:
    """{path below root: content} of what git's HEAD has under these paths; None if `root` is no checkout, as a download is.

    A path that is not committed has no files.
    """
    found: dict[str, bytes] = {}
    if _git(root, "rev-parse", "--verify", "HEAD") is None:
        return None
    for path in paths:
        archive = _git(root, "-c", "core.autocrlf=false", "archive", "--format=tar", "HEAD", "--", path)
        if archive is not None:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                found |= {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    return found


def head(root: Path) -> str:
    """The commit of HEAD, shortened."""
    return (_git(root, "rev-parse", "--short", "HEAD") or b"no git").decode().strip()


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git prints; None if it is not there or fails."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
