"""Whether what was recorded under one description of a space is still true under another.

A space may grow while a study lives: choices may be added, and parameters whose default is what
recorded architectures have. Anything else makes recorded figures mean something different.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.parameter import Choice, SpaceError


@dataclass(frozen=True)
class Growth:
    """What a space has that it did not have when it was recorded.

    Attributes:
        choices: parameter -> choices added.
        parameters: parameter added -> its default.
    """

    choices: Mapping[str, Sequence[Choice]]
    parameters: Mapping[str, Choice]

    def __str__(self) -> str:
        added = [f"{name} {', '.join(map(str, new))}" for name, new in self.choices.items()]
        added += [f"{name} (default {default})" for name, default in self.parameters.items()]
        return "; ".join(added) or "nothing"


def growth(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Growth:
    """What was added between two descriptions of a space (`SearchSpace.description`).

    Raises:
        SpaceError: they differ in anything but additions; names the first difference.
    """
    for difference in _differences(recorded, present):
        raise SpaceError(difference)
    before = _by_name(recorded)
    now = _by_name(present)
    added = {
        name: [choice for choice in parameter["choices"] if choice not in before[name]["choices"]]
        for name, parameter in now.items()
        if name in before
    }
    return Growth(
        choices={name: choices for name, choices in added.items() if choices},
        parameters={name: p["default"] for name, p in now.items() if name not in before},
    )


def _differences(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    before, now = _by_name(recorded), _by_name(present)
    for name in before:
        if name not in now:
            yield f"parameter {name} is gone"
    for name, parameter in now.items():
        if name in before:
            yield from _parameter_differences(before[name], parameter)
        elif parameter["default"] is None:
            yield (
                f"parameter {name} is new and has no default; state as its default what the"
                " recorded architectures have"
            )
    yield from _map_differences("fixed", recorded["fixed"], present["fixed"])
    if recorded["builder"] != present["builder"]:
        yield f"the builder was {recorded['builder']}, now {present['builder']}"
    for text in recorded["constraints"]:
        if text not in present["constraints"]:
            yield f"constraint {text!r} is gone"
    for text in present["constraints"]:
        if text not in recorded["constraints"]:
            yield f"constraint {text!r} is new"
    defaults = {name: p["default"] for name, p in now.items() if name not in before}
    reference = {n: x for n, x in present["reference"].items() if x != defaults.get(n)}
    yield from _map_differences("reference", recorded["reference"], reference)


def _parameter_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    name = now["name"]
    choices, choices_now = _typed(before["choices"]), _typed(now["choices"])
    for choice in choices:
        if choice not in choices_now:
            yield f"{name} no longer has the choice {choice[1]!r}"
    if [choice for choice in choices_now if choice in choices] != choices:
        yield f"the choices of {name} stand in another order"
    if before["ordered"] != now["ordered"]:
        yield f"{name} is {'now' if now['ordered'] else 'no longer'} ordered"
    if before["when"] != now["when"]:
        yield f"the condition of {name} was {before['when']!r}, now {now['when']!r}"
    if before["default"] != now["default"]:
        yield f"the default of {name} was {before['default']!r}, now {now['default']!r}"


def _map_differences(
    what: str, before: Mapping[str, Choice], now: Mapping[str, Choice]
) -> Iterator[str]:
    for name in {**before, **now}:
        if _typed([before.get(name)]) != _typed([now.get(name)]):
            was, is_ = (repr(m[name]) if name in m else "absent" for m in (before, now))
            yield f"{what} {name} was {was}, now {is_}"


def _typed(values: Sequence[Choice | None]) -> list[tuple[type, Choice | None]]:
    """Python holds 1, 1.0 and true for equal; keys and builders do not."""
    return [(type(value), value) for value in values]


def _by_name(description: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {parameter["name"]: parameter for parameter in description["parameters"]}
