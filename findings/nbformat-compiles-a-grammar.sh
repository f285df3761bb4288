#!/usr/bin/env bash
# One would guess that importing nbformat, which reads and writes notebook files, costs the same wherever it is installed,
# and little. Installing jupyterlab beside it multiplies the cost: jupyter-events asks for jsonschema[format-nongpl], which
# brings rfc3987-syntax, and jsonschema imports every checker of formats that it finds; this one compiles a Lark grammar of
# internationalized resource identifiers while it is imported. No field of a notebook has that format.
# Why it matters here: papermill, nbval, nbclient and nbconvert all import nbformat, in every process. A compendium that runs
# each notebook in a process of its own paid about two seconds for every stage, as much as importing torch. The cure is
# `sys.modules["rfc3987_syntax"] = None` before the first import: jsonschema then goes on without that check.
# Versions: nbformat 5.11.1, jsonschema 4.26.0, jupyter-events 0.12.1, rfc3987-syntax 1.1.0, lark 1.3.1, Python 3.11.
# Seen: with jupyter-events beside it 1.6 of 1.8 s of `import nbformat` go into rfc3987_syntax, without it into nothing alike.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nbformat==5.11.1 jsonschema==4.26.0
seconds() { "$work/venv/bin/python" -X importtime -c "import nbformat" 2>&1 |
    awk -F'|' '{gsub(/ /, "", $2); sub(/[^0-9]*/, "", $1)} $3 ~ /rfc3987_syntax/ {own += $1} $3 ~ /^ nbformat$/ {all = $2}
        END {printf "%.2f %.2f\n", own / 1e6, all / 1e6}'; }
seconds >/dev/null # the first import writes compiled files
read -r own all < <(seconds)
echo "alone: import nbformat $all s, of it rfc3987_syntax $own s"
[ "$own" = 0.00 ]
"$work/venv/bin/pip" install --quiet jupyter-events==0.12.1 rfc3987-syntax==1.1.0 lark==1.3.1 jsonschema==4.26.0
seconds >/dev/null
read -r own all < <(seconds)
echo "beside jupyter-events: import nbformat $all s, of it rfc3987_syntax $own s"
awk -v own="$own" -v all="$all" 'BEGIN {exit !(own > 0.5 * all)}'
"$work/venv/bin/python" -c '
import sys
sys.modules["rfc3987_syntax"] = None
import nbformat
nbformat.validate(nbformat.v4.new_notebook())'
echo "As described: an optional checker that notebooks do not use takes most of the import; without it all works."
