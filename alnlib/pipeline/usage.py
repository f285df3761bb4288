"""What the verbs of run_all.py are and take, read from the source of the command line, with the standard library alone.

So `--help` tells it before anything is installed, and a shell completes it without waiting for Python.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

WIDTH = 80

REQUIRED = " (required)"
"""How the help of an option ends that cannot be left out."""

SHELLS = ("bash", "zsh", "fish")

SCRIPT = """\
_run_all() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=run word words
    local here=$(dirname -- "${COMP_WORDS[0]}")
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in @VERBS@) verb=$word; break;; esac
    done
    case $verb in
@OPTIONS@
    esac
    case $verb:$prev:$cur in
        *:--only:*|*:--from:*|*:--to:*) words="@STAGES@";;
        *:--profile:*) words=$(cd "$here/notebooks/profiles" 2>/dev/null && ls | sed 's/[.]yaml$//');;
        *:--device:*) words="auto cpu cuda";;
        verify:*:-*|clean:*:-*|report:*:-*) ;;
        *:--run:*|verify:*|clean:*|report:*) words=$(ls "$here/results" 2>/dev/null);;
    esac
    [[ $COMP_CWORD == 1 ]] && words="@SPACED@ $words"
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [[ ${#COMPREPLY[@]} == 0 ]] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _run_all run_all.py
"""
"""Completion for bash; zsh reads it too."""


def version_line() -> str:
    """Version, commit and Python, for a report of a problem."""
    from alnlib import __version__

    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "no git"
    return "ALN compendium {} ({}), Python {}.{}.{}".format(__version__, commit, *sys.version_info[:3])


def verbs(root: Path = ROOT) -> dict:
    """{verb: (what it does, [(word, what it means)] of arguments, the same of options, example)}, in the order of the source."""
    source = root / "alnlib" / "pipeline" / "cli.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = {}
    for node in tree.body:
        for command in _commands(node):
            name = node.name if isinstance(node, ast.FunctionDef) else node.value.args[0].id
            function = functions.get(name) or _imported(tree, name, root)
            found[name.replace("_", "-")] = (
                ast.get_docstring(function),
                *_parameters(function),
                _text(command, "epilog"),
            )
    return found


def help_of(verb: str, root: Path = ROOT) -> str:
    """The help of a verb."""
    doc, arguments, options, example = verbs(root)[verb]
    words = [word for word, told in options if told.endswith(REQUIRED)] + ["[OPTIONS]"]
    words += [word if word.startswith("[") else word.upper() for word, _ in arguments]
    lines = textwrap.wrap(" ".join(["Usage: python3 run_all.py", verb, *words]), WIDTH) + [""]
    lines += textwrap.wrap(doc, WIDTH - 2, initial_indent="  ", subsequent_indent="  ")
    for title, rows in (("Arguments", arguments), ("Options", options)):
        if rows:
            lines += ["", title + ":"]
            for word, told in rows:
                lead = ("  " + word).ljust(26) + ("  " if len(word) > 23 else "")
                lines += textwrap.wrap(lead + told, WIDTH, subsequent_indent=" " * 26, break_long_words=False)
    return "\n".join(lines + (["", "  " + example] if example else []))


def completion(shell: str, root: Path = ROOT) -> str:
    """A script that lets a shell complete `./run_all.py`: verbs, their options, stages, profiles, runs and files."""
    known = verbs(root)
    options = {verb: " ".join(word.split()[0] for word, _ in rows) for verb, (_, _, rows, _) in known.items()}
    stages = re.findall(r"notebook: (\d\d)", (root / "alnlib/pipeline/stages.yaml").read_text(encoding="utf-8"))
    if shell == "fish":
        lines = ["complete -c run_all.py -n __fish_use_subcommand -a '{}'".format(" ".join(known))]
        for verb, words in options.items():
            seen = "__fish_seen_subcommand_from " + verb if verb != "run" else "true"
            lines += [f"complete -c run_all.py -n '{seen}' -l {word[2:]}" for word in words.split()]
        return "\n".join(lines)
    arms = "\n".join('        {}) words="{}";;'.format(*pair) for pair in options.items())
    filled = {"VERBS": "|".join(known), "SPACED": " ".join(known), "STAGES": " ".join(stages), "OPTIONS": arms}
    script = re.sub(r"@(\w+)@", lambda match: filled[match[1]], SCRIPT)
    return "autoload -U +X bashcompinit && bashcompinit\n" * (shell == "zsh") + script


def _commands(node: ast.AST) -> list:
    """The calls of app.command that make a verb of a function, or of the one that is named."""
    calls = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        calls = [node.value.func]
    return [call for call in calls if isinstance(call, ast.Call) and ast.unparse(call.func) == "app.command"]


def _imported(tree: ast.Module, name: str, root: Path) -> ast.FunctionDef:
    """The function of another module that is imported under this name."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            source = root.joinpath(*node.module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
            return next(each for each in ast.parse(source).body if getattr(each, "name", "") == name)
    raise ValueError("no function " + name)


def _parameters(function: ast.FunctionDef) -> tuple:
    """([(word, help)] of arguments, of options) as the annotations tell."""
    arguments, options = [], []
    plain = [ast.literal_eval(each) if isinstance(each, ast.Constant) else None for each in function.args.defaults]
    n_required = len(function.args.args) - len(plain)
    defaults = [None] * n_required + plain
    for number, parameter in enumerate(function.args.args):
        default = defaults[number]
        told = getattr(getattr(parameter.annotation, "slice", None), "elts", [None])[-1]
        if not isinstance(told, ast.Call):
            continue
        metavar, means = _text(told, "metavar"), _text(told, "help") or ""
        kind = ast.unparse(parameter.annotation.slice.elts[0])
        if default not in (None, False, "") and "default" not in means:
            means += f" (default: {default})"
        if ast.unparse(told.func).endswith("Argument"):
            arguments.append(((metavar or parameter.arg.upper()) + "..." * kind.startswith("list["), means))
            continue
        means += REQUIRED * (number < n_required)
        named = [each.value for each in told.args if isinstance(each, ast.Constant)]
        value = "" if kind == "bool" else " " + (metavar or parameter.arg.upper())
        options.append((("--" + parameter.arg.replace("_", "-") if not named else named[0]) + value, means))
    return arguments, options


def _text(call: ast.Call, name: str) -> str:
    return next((each.value.value for each in call.keywords if each.arg == name), "")


def answer(arguments: list, usage: str) -> str:
    """What is to be printed for `--version`, `--help` of anything and a completion; empty for a command to be run."""
    if arguments[:1] == ["--version"]:
        return version_line()
    if arguments[:1] == ["completion"] and arguments[1:] in [[shell] for shell in SHELLS]:
        return completion(arguments[1])  # a shell takes what is printed for code: no installation may begin
    if not any(word in ("-h", "--help") for word in arguments):
        return ""
    verb = arguments[0] if not arguments[0].startswith("-") else "run" if len(arguments) > 1 else ""
    try:
        return help_of(verb) if verb in verbs() else usage.strip()
    except (SyntaxError, AttributeError):  # of a Python too old for the source
        return usage.strip()
