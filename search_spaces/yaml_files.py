"""Reading what users write: YAML, schemas and `module:Name` paths, with one-line errors."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces.hints import did_you_mean

M = TypeVar("M", bound=BaseModel)
_LARGEST_BYTES = 10**6
_MOST_VALUES = 10**5


def read_yaml(file: Path, error: type[ValueError]) -> dict[str, Any]:
    """A YAML mapping, safe-loaded; a key that stands twice is refused.

    Raises:
        error: unreadable, not YAML, or not a mapping.
    """
    try:
        content = _content(file)
    except OSError as problem:
        raise error(f"cannot read {file}: {problem.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise error(f"{file} is not YAML: {' '.join(str(problem).split())}") from None
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
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise error(f"{where}: {key}: {_explain(first, model)}") from None


def import_object(path: str, folder: Path, key: str, error: type[ValueError]) -> Any:
    """What `package.module:Name` or `./file.py:Name` (relative to `folder`) names.

    Raises:
        error: not such a path, no such module, or no such name in it.
    """
    module_path, _, name = path.partition(":")
    if not name:
        raise error(f"{key}: {path!r} is not package.module:Name or ./file.py:Name")
    try:
        module = _load(module_path, folder)
    except (ImportError, OSError) as problem:
        raise error(f"{key}: cannot import {module_path!r}: {problem}") from None
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


def _explain(problem: Any, model: type[BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        valid = _fields(model, problem["loc"][:-1])
        close = get_close_matches(str(problem["loc"][-1]), valid, n=1)
        return "unknown key; " + (
            f"did you mean {close[0]!r}?" if close else f"it has {', '.join(valid)}"
        )
    if problem["type"] == "missing":
        return "is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]} (got {problem['input']!r})"


def _fields(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the model nested at `location`."""
    for part in location:
        field = model.model_fields.get(str(part))
        nested = field.annotation if field is not None else None
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            model = nested
    return list(model.model_fields)


def _content(file: Path) -> Any:
    if file.stat().st_size > _LARGEST_BYTES:
        raise yaml.YAMLError(f"it is larger than {_LARGEST_BYTES:,} bytes")
    loader = _StrictLoader(file.read_text(encoding="utf-8"))
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
    """YAML's safe loader, refusing a mapping that names a key twice."""


def _mapping_without_repetition(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise yaml.YAMLError(
                f"key {key!r} stands twice, again in line {node.start_mark.line + 1}"
            )
    return loader.construct_mapping(node)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repetition)
