"""Manifests from files and folders: every document with the line of every field."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alignment_api import names
from alignment_api.validation import Problem, check_manifest, parse_cycle, parse_dataset
from alignment_operator import schedules
from alignment_operator.cli import unknown_annotations
from alignment_operator.cli.errors import CommandError, Exit

STDIN = Path("-")
_SUFFIXES = (".yaml", ".yml", ".json")
_MOST_FIELDS = 100_000


@dataclass(frozen=True)
class Located:
    """A problem, and where it is."""

    file: Path
    line: int  # 0 if it has none
    problem: Problem

    def __str__(self) -> str:
        file = "(stdin)" if self.file == STDIN else str(self.file)
        where = f"{file}:{self.line}" if self.line else file
        return f"{where}: {self.problem}"


@dataclass(frozen=True)
class Document:
    """One YAML document. `lines` maps a field's path, as `Problem.path` spells it, to its line."""

    file: Path
    value: Any
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return str(self.value.get("kind", "")) if isinstance(self.value, dict) else ""

    @property
    def is_ours(self) -> bool:
        return self.kind in (names.CYCLE_KIND, names.DATASET_KIND)

    @property
    def name(self) -> str:
        """Of a valid document; empty if the API server is to choose one."""
        return str(self.value["metadata"].get("name") or "")

    def problems(self) -> list[Located]:
        found = (*check_manifest(self.value), *unknown_annotations.problems(self.value))
        if not found and self.is_ours:
            parse = parse_cycle if self.kind == names.CYCLE_KIND else parse_dataset
            found = schedules.problems(parse(self.value)[0])
        return [self.located(problem) for problem in found]

    def located(self, problem: Problem) -> Located:
        return Located(self.file, self._line(problem.path), problem)

    def _line(self, path: str) -> int:
        """Of the field, or of the nearest one above it that is there."""
        above = (
            known for known in self.lines if path == known or path.startswith((f"{known}.", f"{known}["))
        )
        return self.lines.get(max(above, key=len, default=""), 0)


def read(paths: Iterable[Path]) -> tuple[list[Document], list[Located]]:
    """The documents of every file, and what is wrong with those that are no YAML."""
    documents: list[Document] = []
    problems: list[Located] = []
    for path in paths:
        for file in _files(path):
            try:
                documents += _documents(file)
            except _NoYamlError as error:
                problems.append(Located(file, error.line, error.problem))
    return documents, problems


def _files(path: Path) -> list[Path]:
    if path == STDIN or not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        message = f"{path}: there is no .yaml, .yml or .json file in this folder; folders in it are not read"
        raise CommandError(message, Exit.INVALID)
    return found


class _NoYamlError(Exception):
    def __init__(self, line: int, problem: Problem) -> None:
        super().__init__(str(problem))
        self.line = line
        self.problem = problem


def _documents(file: Path) -> list[Document]:
    try:
        text = (sys.stdin.buffer.read() if file == STDIN else file.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _NoYamlError(line, Problem("(file)", "", "is not UTF-8; save it as UTF-8")) from error
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        raise _NoYamlError(0, Problem("(file)", "", why)) from error
    loader = _Loader(text)
    try:
        found = []
        while loader.check_node():
            node = loader.get_node()
            lines: dict[str, int] = {}
            _note_lines(node, "", lines)
            found.append(Document(file, loader.construct_document(node), lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise _NoYamlError(mark.line + 1 if mark else 0, Problem("(YAML)", "", message)) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise _NoYamlError(0, Problem("(YAML)", "", str(error).splitlines()[0])) from error
    except RecursionError as error:
        raise _NoYamlError(0, Problem("(YAML)", "", "is nested too deeply, or contains itself")) from error
    finally:
        loader.dispose()
    return [document for document in found if document.value is not None]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """As the API server's own parser reads: 1e-5 is a number, a timestamp is text, a key stands once."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice; keep one", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return {str(key) if isinstance(key, int | float) else key: value for key, value in mapping.items()}


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve("null", r"^(?:~|null|Null|NULL|)$", "~nN")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])
_resolve(
    "bool", r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$", "yYnNtTfFoO"
)
_resolve("int", r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$", "-+0123456789")
_resolve("float", r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+0123456789.")
_resolve("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+.")
_resolve("merge", r"^(?:<<)$", "<")


def _note_lines(node: yaml.Node, path: str, lines: dict[str, int]) -> None:
    if len(lines) > _MOST_FIELDS:
        raise _NoYamlError(0, Problem("(YAML)", "", f"its aliases expand to more than {_MOST_FIELDS} fields"))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                plain = re.fullmatch(r"[A-Za-z0-9_-]+", key.value)
                quoted = f"[{json.dumps(key.value, ensure_ascii=False)}]"
                step = f".{key.value}" if plain and path else key.value if plain else quoted
                lines[path + step] = key.start_mark.line + 1
                _note_lines(value, path + step, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[f"{path}[{index}]"] = item.start_mark.line + 1
            _note_lines(item, f"{path}[{index}]", lines)
