"""Parameters of notebooks: read from the cell tagged "parameters", joined from profile and command line, checked.

papermill only warns about an unknown name and then uses the default; here it is an error.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from alnlib.errors import InputError
from alnlib.yaml_text import read_yaml

RESERVED = ("run", "cohort", "data")
"""Parameters that the runner alone sets: the lock, the cache and the target of a run go by them."""

LITERALS = (bool, int, float, str, type(None))


def read_notebook(path: Path) -> dict:
    """A notebook as plain JSON; InputError if there is none or it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        wrong = "no such notebook" if isinstance(error, FileNotFoundError) else f"not a notebook ({error})"
        raise InputError(f"{path}: {wrong}; restore it with `git checkout -- {path.name}`") from None


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
    if ".." in path.parts:
        raise InputError("--profile names a file of notebooks/profiles, such as demo, and is no path")
    if not path.exists():
        known = sorted(other.stem for other in path.parent.glob("*.yaml"))
        raise InputError(
            f"there is no profile {path.stem!r}; choose one of {', '.join(known)} (files in {path.parent.name}/)"
        )
    try:
        content = read_yaml(path.read_text(encoding="utf-8")) or {}
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds no sections; write `all:` or `22_ultrasound:`, and `parameter: value` lines below it"
        )
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
    try:
        return (section if dot else "all"), parameter, read_yaml(value)
    except yaml.YAMLError:
        raise InputError(
            f"--set {text[:60]}: {value[:60]!r} is no YAML value; a list is written [1, 2], a text without brackets"
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
    shared = {name: value for name, value in profile.get("all", {}).items() if name in declared}
    given = [(name, value, "the stage table") for name, value in preset.items()]
    given += [(name, value, "profile, section all") for name, value in shared.items()]
    given += [
        (name, value, f"profile, section {notebook_name}") for name, value in profile.get(notebook_name, {}).items()
    ]
    given += [(name, value, "the command line") for name, value in common.items() if name in declared]
    for section, name, value in settings:
        if section in (notebook_name, notebook_name[:2]) or (section == "all" and name in declared):
            given.append((name, value, "--set"))
    values = dict(declared)
    for name, (value, where) in {name: (value, where) for name, value, where in given}.items():
        if name not in declared:
            raise InputError(
                f"{notebook_name} has no parameter {name!r} ({where}); it has {', '.join(sorted(declared))}. Mend the name."
            )
        values[name] = _as_type_of(declared[name], value, f"{notebook_name}: {name} ({where})")
    return values


def check_names(
    profile: dict, settings: list[tuple[str, str, Any]], declared: dict[str, dict[str, Any]], profile_name: str
) -> None:
    """Raise InputError for a section that names no notebook, a shared parameter that no notebook has, or one of RESERVED."""
    everywhere = {name for names in declared.values() for name in names}
    sections = ["all", *declared]
    asked = [(f"profile {profile_name}", sections, section, name) for section in profile for name in profile[section]]
    or_numbers = [*sections, *(notebook[:2] for notebook in declared)]
    asked += [
        (f"--set {section}.{name}".replace("--set all.", "--set "), or_numbers, section, name)
        for section, name, _ in settings
    ]
    for where, known, section, name in asked:
        if name in RESERVED:
            raise InputError(f"{where}: {name} is set by --cohort, --data and --profile; use those and leave it out")
        if section not in known:
            raise InputError(f"{where}: there is no notebook {section!r}; known: {', '.join(sorted(declared))}")
        if section == "all" and name not in everywhere:
            raise InputError(
                f"{where}: no notebook has this parameter, {name!r}; see the parameters cells, or `run_all.py --list`"
            )


def _as_type_of(default: Any, value: Any, what: str) -> Any:
    """`value` if it fits the type of `default` (an int passes for a float; anything passes for None)."""
    if isinstance(default, float) and not isinstance(value, bool):
        with suppress(TypeError, ValueError):  # YAML reads 1e-3, without a point, as text
            return float(value)
    if not (_is_literal(value) and (default is None or type(value) is type(default))):
        raise InputError(f"{what} must be {type(default).__name__}, like the default {default!r}, not {value!r}")
    return value


def _is_literal(value: Any) -> bool:
    """Whether papermill writes it into a notebook as itself: no bytes, dates or sets of YAML, whose text it does not escape."""
    return all(map(_is_literal, value)) if isinstance(value, list) else isinstance(value, LITERALS)
