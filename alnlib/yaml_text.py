"""YAML that somebody else wrote: plain values within stated limits, every fault of it a yaml.YAMLError with its place.

What its keys mean is the business of whoever reads it.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST_CHARACTERS = 2**18
"""Of a text. The longest cohort.yaml of a public cohort has 5,000."""

MOST_LEVELS = 20
"""Of lists and mappings in each other."""

LARGEST_WHOLE, MOST_DIGITS = 2**63 - 1, 100


class _Loader(yaml.SafeLoader):
    """Safe values; what cannot be one, such as a date with a 13th month, is a fault with its place."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, OverflowError) as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A whole number beyond 64 bits neither fits a column nor prints."""
    if len(node.value) > MOST_DIGITS or abs(value := loader.construct_yaml_int(node)) > LARGEST_WHOLE:
        raise ValueError("a whole number beyond 64 bits")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def yaml_node(text: str) -> yaml.Node | None:
    """The tree of a document, with lines; None of an empty one. Raises yaml.YAMLError for what is no YAML, longer or deeper than
    read here, or refers to itself by aliases, of which a few lines make a tree without end."""
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"{len(text):,} characters, and {MOST_CHARACTERS:,} are read")
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_LEVELS} levels", problem_mark=event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            problem = f"an alias (*{event.anchor}) is not read; write it out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
    return yaml.compose(text, _Loader)


def yaml_value(node: yaml.Node | None) -> Any:
    """The value of a tree. Raises yaml.YAMLError for one that cannot be made."""
    return None if node is None else _Loader("").construct_document(node)


def read_yaml(text: str) -> Any:
    """The value of a text; raises yaml.YAMLError as the two above."""
    return yaml_value(yaml_node(text))


def key_text(node: yaml.Node) -> str:
    """A key as it is written; of a list or mapping, which is no key here, its kind."""
    return node.value if isinstance(node.value, str) else f"({node.id})"
