"""Pictures of a terminal of 80 columns, for docs/running.md: `python tools/screenshots.py`.

Starts a scratch run in a terminal of its own (a pty), with results and patients in a temporary folder, and lists its stages
afterwards. Writes docs/run.svg, the run while most of its stages were under way side by side, and docs/list.svg: what the
commands wrote and nothing else, drawn by rich. Takes three minutes; Linux and macOS.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

from alnlib.files import write_text
from alnlib.paths import repository_root

COLUMNS, LINES = 80, 32
RUN = "--run mine --set 22.crop=fixed_size"
ERASED = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
"""What a table that is kept up to date writes before it is drawn again."""

OF_THE_CURSOR = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]")
"""Signs that move or hide the cursor."""
WEB_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""Rich would have a reader's browser fetch a font."""


def written(arguments: str, folder: Path) -> str:
    """All that run_all.py writes to a terminal, signs of control included. CalledProcessError if it fails."""
    inside, outside = pty.openpty()
    fcntl.ioctl(outside, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "ALN_RESULTS": str(folder / "results"), "ALN_DATA_ROOT": str(folder)}
    command = [sys.executable, "run_all.py", *arguments.split()]
    given = {"stdin": outside, "stdout": outside, "stderr": outside, "env": environment}
    process = subprocess.Popen(command, cwd=repository_root(), **given)
    os.close(outside)
    parts = []
    try:
        while part := os.read(inside, 65536):
            parts.append(part)
    except OSError:  # so Linux tells that the other end is closed
        pass
    os.close(inside)
    if status := process.wait():
        raise subprocess.CalledProcessError(status, command)
    return b"".join(parts).decode().replace("\r\n", "\n")


def busiest(stream: str, name: str) -> str:
    """The screen of a run when most stages were under way, the last such moment."""
    first, *later = ERASED.split(stream)
    before, _, table = first.partition(f"results/{name}:")
    tables = [f"results/{name}:{table}", *later[:-1]]
    return before + max(reversed(tables), key=lambda shown: shown.count("running"))


def picture(arguments: str, screen: str) -> str:
    """SVG of a terminal that shows a command and what it wrote."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="256", force_terminal=True)
    console.print(Text(f"$ python3 run_all.py {arguments}", style="bold"))
    console.print(Text.from_ansi(OF_THE_CURSOR.sub("", screen).strip("\n") + "\n"))  # the last line is clipped
    drawn = console.export_svg(title=f"{COLUMNS} columns", unique_id="terminal")
    return WEB_FONT.sub("", drawn).replace("Fira Code, monospace", "monospace")


def main() -> None:
    """Run, list, and write both pictures."""
    docs = repository_root() / "docs"
    with tempfile.TemporaryDirectory() as folder:
        run, listing = f"{RUN} --to 22", f"{RUN} --list"
        write_text(picture(run, busiest(written(run, Path(folder)), "mine")), docs / "run.svg")
        write_text(picture(listing, written(listing, Path(folder))), docs / "list.svg")


if __name__ == "__main__":
    main()
