"""Reading what users write: YAML, schemas and `module:Name` paths, with one-line errors."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces.hints import did_you_mean

M = TypeVar("M", bound=BaseModel)
_LARGEST_BYTES = 10**6
_MOST_VALUES = 10**5
_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
_TAG = "tag:yaml.org,2002:"
_MODULE = re.compile(r"\w+(\.\w+)*|.*\.py")


def read_yaml(file: Path, error: type[ValueError]) -> dict[str, Any]:
    """A YAML mapping, safe-loaded; a key that stands twice is refused.

    Raises:
        error: unreadable, not YAML, or not a mapping.
    """
    return parse_yaml(read_text(file, error), file, error)


def read_text(file: Path, error: type[ValueError], largest_bytes: int = _LARGEST_BYTES) -> str:
    """A text file that is to be parsed as YAML.

    Raises:
        error: unreadable, no UTF-8, or larger than a file of its kind is.
    """
    try:
        if file.stat().st_size > largest_bytes:
            raise error(f"{file} is not YAML: it is larger than {largest_bytes:,} bytes")
        return file.read_text(encoding="utf-8")
    except OSError as problem:
        raise error(f"cannot read {file}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{file} is not YAML: {_reason(problem)}") from None


def parse_yaml(text: str, file: Path, error: type[ValueError]) -> dict[str, Any]:
    """As `read_yaml`, of a text that was read already; `file` is for messages.

    Raises:
        error: not YAML, or not a mapping.
    """
    try:
        content = _content(text)
    except (yaml.YAMLError, RecursionError) as problem:
        raise error(f"{file} is not YAML: {_reason(problem)}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise error(f"{file}: expected a mapping of names to values")
    return content


def parse(model: type[M], content: dict[str, Any], where: str, error: type[ValueError]) -> M:
    """Validates a mapping; the first problem becomes one line that names file and key.

    Raises:
        error: the mapping does not fit the model.
    """
    try:
        return model.model_validate(content)
    except ValidationError as problem:
        keys, what = _explain(problem.errors(), content, model)
        key = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys)
        place = f"{where}: {_cut(key[1:], 200)}" if key else where
        raise error(f"{place}: {what}") from None


def import_object(path: str, folder: Path, key: str, error: type[ValueError]) -> Any:
    """What `package.module:Name` or `./file.py:Name` (relative to `folder`) names.

    Raises:
        error: not such a path, no such module, or no such name in it.
    """
    module_path, _, name = path.partition(":")
    if not name or not _MODULE.fullmatch(module_path):
        raise error(f"{key}: {path!r} is not package.module:Name or ./file.py:Name")
    try:
        module = _load(module_path, folder)
    except Exception as problem:  # a user's own file may raise anything
        what = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise error(f"{key}: cannot import {module_path!r}: {what}") from problem
    if not hasattr(module, name):
        hint = did_you_mean(name, dir(module))
        raise error(f"{key}: {module_path} has no {name!r}{hint}")
    return getattr(module, name)


def _load(module_path: str, folder: Path) -> ModuleType:
    if not module_path.endswith(".py"):
        return importlib.import_module(module_path)
    file = (folder / module_path).resolve()
    module_name = f"user_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ImportError(f"no file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _explain(
    problems: Any, content: Any, model: type[BaseModel]
) -> tuple[tuple[str | int, ...], str]:
    """The keys of the first problem, and what it is.

    Of a value that may be one thing or another, pydantic says why it is neither: what is furthest
    inside was most likely meant.
    """
    first = _keys(problems[0], content)
    about = [(_keys(p, content), p) for p in problems]
    inside = [(keys, p) for keys, p in about if keys[: len(first)] == first]
    deepest = max((keys for keys, _ in inside), key=len)
    same = [p for keys, p in inside if keys == deepest]
    if same[0]["type"] == "extra_forbidden":
        valid = _fields(model, deepest[:-1])
        hint = did_you_mean(str(deepest[-1]), valid) or f"; it has {', '.join(valid)}"
        return deepest, f"unknown key{hint}"
    if same[0]["type"] == "missing":
        return deepest, "is missing"
    messages = [problem["msg"].removeprefix("Value error, ") for problem in same]
    messages = [f"{message[0].lower()}{message[1:]}" for message in messages]
    return deepest, " or ".join(dict.fromkeys(messages)) + _got(same[0])


def _keys(problem: Any, content: Any) -> tuple[str | int, ...]:
    """Where a problem is in the file, without the names that pydantic gives to alternatives."""
    keys: list[str | int] = []
    for part in problem["loc"]:
        if isinstance(content, (dict, list)) and part in _within(content):
            keys.append(part)
            content = content[part]
    if problem["type"] == "missing":
        keys.append(problem["loc"][-1])
    return tuple(keys)


def _within(content: Any) -> Iterable[Any]:
    return content if isinstance(content, dict) else range(len(content))


def _got(problem: Any) -> str:
    """What stands there; nothing where the message speaks of a whole list or mapping."""
    value, about_whole = problem["input"], problem["type"] in ("value_error", "too_short")
    if isinstance(value, (dict, list)):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        return "" if about_whole else f" (got {kind})"
    return f" (got {_cut(repr(value), 60)})"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _fields(model: type[BaseModel], keys: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the model nested at `keys`."""
    kind: Any = model
    for key in keys:
        if get_origin(kind) in (dict, list):
            kind = _one(get_args(kind)[-1])
        else:
            kind = _one(kind.model_fields[str(key)].annotation)
    return list(kind.model_fields)


def _one(kind: Any) -> Any:
    """A type without annotations; of several, the one that holds others."""
    if get_origin(kind) is Annotated:
        return _one(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        kinds = [_one(each) for each in get_args(kind)]
        return next((k for k in kinds if get_origin(k) or hasattr(k, "model_fields")), kinds[0])
    return kind


def _reason(problem: Exception) -> str:
    if isinstance(problem, RecursionError):
        return "it is nested too deeply"
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        what = ", ".join(filter(None, (problem.context, problem.problem)))
        return f"line {problem.problem_mark.line + 1}: {what}"
    return " ".join(str(problem).replace('"<unicode string>", ', "").split())


def _content(text: str) -> Any:
    loader = _StrictLoader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _measure(node, {})
    return loader.construct_document(node)


def _measure(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values that a node holds once its aliases are written out.

    Raises:
        yaml.YAMLError: too many for a file that a person wrote, or without end.
    """
    line = node.start_mark.line + 1
    if node.tag.removeprefix(_TAG) not in _KINDS:
        what = repr(_cut(node.value, 40)) if isinstance(node, yaml.ScalarNode) else "this"
        kind = node.tag.removeprefix(_TAG)
        raise yaml.YAMLError(f"line {line}: {what} is read as {kind!r}; put text in quotes")
    if id(node) not in sizes:
        sizes[id(node)] = 0  # while its content is measured: only an alias to itself sees this
        sizes[id(node)] = 1 + sum(_measure(child, sizes) for child in _children(node))
    if sizes[id(node)] == 0:
        raise yaml.YAMLError(f"line {line}: holds itself through an alias")
    if sizes[id(node)] > _MOST_VALUES:
        raise yaml.YAMLError(
            f"line {line}: its aliases stand for more than {_MOST_VALUES:,} values"
        )
    return sizes[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, refusing keys that are no text and mappings that name one twice."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As the safe loader, with one line for what no number can be made of."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            what = f"{_cut(str(node.value), 40)!r} is no {node.tag.removeprefix(_TAG)}"
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {what}") from None


def _mapping_of_names(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    known = set()
    for key, _ in node.value:
        name, line = loader.construct_object(key, deep=True), key.start_mark.line + 1
        if not isinstance(name, str):
            what = _cut(repr(name), 40)
            raise yaml.YAMLError(f"line {line}: key {what} is no text; put it in quotes")
        if name in known:
            raise yaml.YAMLError(f"line {line}: key {_cut(name, 40)!r} stands twice")
        known.add(name)
    return loader.construct_mapping(node)


_StrictLoader.add_constructor(_TAG + "map", _mapping_of_names)
