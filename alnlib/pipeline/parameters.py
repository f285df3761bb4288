"""Parameters of notebooks: read from the cell tagged "parameters", joined from profile and command line, checked.

papermill only warns about an unknown name and then uses the default; here it is an error.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from alnlib.errors import InputError

RESERVED = ("run", "cohort", "data")
"""Parameters that the runner alone sets: the lock, the cache and the target of a run go by them."""

LITERALS = (bool, int, float, str, list, type(None))


def read_notebook(path: Path) -> dict:
    """A notebook as plain JSON; InputError if there is none or it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such notebook; restore it with `git checkout -- {path.name}`") from None
    except ValueError as error:
        raise InputError(f"{path}: not a notebook ({error}); restore it with `git checkout -- {path.name}`") from None


def cell_source(cell: dict) -> str:
    """Source of a notebook cell as one string."""
    return "".join(cell["source"])


def declared_parameters(notebook: dict, name: str) -> dict[str, Any]:
    """{parameter: default} of a notebook. ValueError unless its tagged cell holds literals, one assignment a line."""
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{name}: one cell must be tagged 'parameters', found {len(tagged)}")
    declared = {}
    for statement in ast.parse(cell_source(tagged[0])).body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            raise ValueError(f"{name}: parameters cell: only plain assignments of literals: {ast.unparse(statement)}")
        declared[statement.targets[0].id] = ast.literal_eval(statement.value)
    return declared


def read_profile(path: Path) -> dict[str, dict[str, Any]]:
    """{"all" or notebook name: {parameter: value}} from profiles/NAME.yaml."""
    if not path.exists():
        known = sorted(other.stem for other in path.parent.glob("*.yaml"))
        raise InputError(
            f"there is no profile {path.stem!r}; choose one of {', '.join(known)} (files in {path.parent.name}/)"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    for section, values in content.items():
        if not isinstance(values, dict):
            raise InputError(f"{path}: section {section!r} must hold `parameter: value` lines")
    return content


def parse_setting(text: str) -> tuple[str, str, Any]:
    """("22" or "all", parameter, value) of a command-line setting such as "22.epochs=5" or "seed=7"."""
    name, equals, value = text.partition("=")
    section, dot, parameter = name.rpartition(".")
    if not equals or not parameter.isidentifier():
        raise InputError(f"--set {text}: write NN.parameter=value, for example --set 22.epochs=5")
    if parameter in RESERVED:
        raise InputError(f"--set {text}: {parameter} is set by --cohort, --data and --profile; use those")
    try:
        return (section if dot else "all"), parameter, yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(
            f"--set {text}: {value!r} is no YAML value; a list is written [1, 2], a text without brackets"
        ) from None


def stage_parameters(
    notebook_name: str,
    declared: dict[str, Any],
    preset: Mapping[str, Any],
    profile: dict,
    common: dict[str, Any],
    settings: list[tuple[str, str, Any]],
) -> dict[str, Any]:
    """The values a stage is run with: its notebook's defaults, its own presets, the profile's, what all share, --set.

    Raises InputError for a name that the notebook does not declare or a value of another type than the default.
    """
    given: dict[str, tuple[Any, str]] = {name: (value, "the stage table") for name, value in preset.items()}
    for section, where in (("all", "profile, section all"), (notebook_name, f"profile, section {notebook_name}")):
        for name, value in profile.get(section, {}).items():
            if section != "all" or name in declared:
                given[name] = (value, where)
    given |= {name: (value, "the command line") for name, value in common.items() if name in declared}
    for section, name, value in settings:
        if section in (notebook_name, notebook_name[:2]) or (section == "all" and name in declared):
            given[name] = (value, "--set")
    values = dict(declared)
    for name, (value, where) in given.items():
        if name not in declared:
            raise InputError(
                f"{notebook_name} has no parameter {name!r} ({where}); it has {', '.join(sorted(declared))}. Mend the name."
            )
        values[name] = _as_type_of(declared[name], value, f"{notebook_name}: {name} ({where})")
    return values


def check_names(
    profile: dict, settings: list[tuple[str, str, Any]], declared: dict[str, dict[str, Any]], profile_name: str
):
    """Raise InputError for a section that names no notebook, or a shared parameter that no notebook has."""
    known = set(declared)
    everywhere = set().union(*declared.values()) if declared else set()
    for section, names in profile.items():
        for name in sorted(set(names) & set(RESERVED)):
            raise InputError(f"profile {profile_name}: {name} is set by --cohort, --data and --profile; leave it out")
        if section != "all" and section not in known:
            raise InputError(
                f"profile {profile_name}: section {section!r} is no notebook; known: {', '.join(sorted(known))}"
            )
        unknown = set(names) - everywhere if section == "all" else set()
        if unknown:
            raise InputError(
                f"profile {profile_name}: no notebook has a parameter {sorted(unknown)[0]!r}; mend the name"
            )
    for section, name, _ in settings:
        if section != "all" and not any(section in (notebook, notebook[:2]) for notebook in known):
            raise InputError(
                f"--set {section}.{name}: there is no notebook {section!r}; known: {', '.join(sorted(known))}"
            )
        if section == "all" and name not in everywhere:
            raise InputError(
                f"--set {name}: no notebook has this parameter; see the parameters cells, or `run_all.py --list`"
            )


def _as_type_of(default: Any, value: Any, what: str) -> Any:
    """`value` if it fits the type of `default` (an int passes for a float; anything passes for None)."""
    if (
        default is None
        or isinstance(value, type(default))
        and not (isinstance(value, bool) and not isinstance(default, bool))
    ):
        fits = isinstance(value, LITERALS)
    else:
        fits = isinstance(default, float) and not isinstance(value, bool) and _is_number(value)
        value = float(value) if fits else value
    if not fits:
        raise InputError(f"{what} must be {type(default).__name__}, like the default {default!r}, not {value!r}")
    return value


def _is_number(value: Any) -> bool:
    """Whether float() takes it; YAML reads 1e-3, without a point, as text."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
