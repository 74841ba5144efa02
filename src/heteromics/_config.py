"""Strict reading of YAML and ``--set key=value`` into frozen dataclasses: one way for recipes and model configs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from heteromics.errors import RecipeError, did_you_mean

T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping; a file that is missing, broken or no mapping is a :class:`RecipeError` naming it.

    A key that stands twice in one mapping is an error too, for YAML would drop the first without a word.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _check_keys(node, path)
        loaded = loader.construct_document(node) if node else None
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise RecipeError(f"{path}: found {type(loaded).__name__}, expected a mapping of keys to values.")
    return loaded


def _check_keys(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, path)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise RecipeError(f"{path}: key '{name}' stands in lines {lines[name]} and {line}. Fix: keep one.")
            lines[name] = line
            _check_keys(value, path)


def unknown_key(key: str, known: Iterable[str], where: str) -> RecipeError:
    """Return the error for a key nobody knows, offering the nearest known one."""
    known = sorted(known)
    return RecipeError(f"{where}: unknown key '{key}'. {did_you_mean(key, known)}Known keys: {', '.join(known)}.")


def override(mapping: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return ``mapping`` with ``a.b=value`` assignments applied; values are read as YAML.

    Examples
    --------
    >>> override({"edges": {"gene_peak": {"within_bp": 150000}}}, ["edges.gene_peak.within_bp=50_000"])
    {'edges': {'gene_peak': {'within_bp': 50000}}}
    """
    result = _copy(mapping)
    for assignment in assignments:
        dotted, sign, text = assignment.partition("=")
        if not sign or not dotted:
            raise RecipeError(
                f"--set {assignment}: found no '=', expected key=value, for example source.gtf=genes.gtf.gz"
            )
        *path, last = dotted.split(".")
        here = result
        for part in path:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise RecipeError(f"--set {assignment}: '{part}' is a value, not a group of keys.")
        try:
            here[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {assignment}: the value is not valid YAML: {error}") from error
    return result


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def build(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Make the dataclass ``cls`` from a mapping: nested dataclasses too, every key known, every type as declared.

    Raises
    ------
    RecipeError
        For an unknown key (the nearest is offered), a missing key without default, or a value of another type.
    """
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{where}: found {type(mapping).__name__}, expected a mapping of keys to values.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            raise unknown_key(str(key), fields, where)
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    absent = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise RecipeError(f"{where}: missing {', '.join(absent)}.")
    try:
        return cls(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise RecipeError(f"{where}: found {value!r}, expected one of {', '.join(map(repr, args))}.")
        return value
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type", hint), value, where)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return origin(_convert(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin or hint
    if isinstance(value, plain) and not (plain in (int, float) and isinstance(value, bool)):
        return value
    if plain is Path and isinstance(value, str):
        return Path(value)
    raise RecipeError(
        f"{where}: found {value!r} ({type(value).__name__}), expected {getattr(plain, '__name__', plain)}."
    )


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    kinds = [arg for arg in args if arg is not type(None)]
    errors = []
    for kind in kinds:
        try:
            return _convert(kind, value, where)
        except RecipeError as error:
            errors.append(error)
    raise errors[-1]


def as_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain dicts, lists and values that JSON and YAML can hold."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
