"""A space may grow while a study lives: by choices and by parameters with a default."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_spaces import RandomSpace, random_spaces, space_of

from search_spaces.load import load_space
from search_spaces.migration import growth
from search_spaces.parameter import SpaceError
from search_spaces.space import Parameter, SearchSpace

Description = dict[str, Any]


def description(space: SearchSpace) -> Description:
    """As it comes back from where it was recorded."""
    whole = space_of(space.parameters, space.constraints, a=1, b="x")
    first = whole.decode(whole.enumerate()[0])
    whole = SearchSpace(**{**vars_of(whole), "reference_choices": first})
    recorded: Description = json.loads(json.dumps(whole.description()))
    return recorded


def vars_of(space: SearchSpace) -> dict[str, Any]:
    return {name: getattr(space, name) for name in space.__dataclass_fields__}


def another(choice: Any) -> Any:
    """A choice of the same kind that no menu of the random spaces has."""
    return "another" if isinstance(choice, str) else 99 if isinstance(choice, int) else 99.5


@given(random_spaces(), st.data())
@settings(max_examples=60, deadline=None)
def test_choices_and_parameters_with_defaults_may_be_added_anywhere(
    random: RandomSpace, data: Any
) -> None:
    recorded = description(random.space)
    present = copy.deepcopy(recorded)
    choices, parameters = {}, {}
    for parameter in present["parameters"]:
        if not isinstance(parameter["choices"][0], bool) and data.draw(st.booleans()):
            added = another(parameter["choices"][0])
            place = data.draw(st.integers(0, len(parameter["choices"])))
            parameter["choices"].insert(place, added)
            choices[parameter["name"]] = [added]
    for i in range(data.draw(st.integers(0, 2))):
        new = {"name": f"new{i}", "choices": [1, 2], "ordered": True, "when": None, "default": 2}
        present["parameters"].insert(data.draw(st.integers(0, len(present["parameters"]))), new)
        parameters[f"new{i}"] = 2
        if data.draw(st.booleans()):
            present["reference"][f"new{i}"] = 2
    found = growth(recorded, present)
    assert dict(found.choices) == choices
    assert dict(found.parameters) == parameters
    assert (str(found) == "nothing") == (not choices and not parameters)


BASE = space_of(
    [
        Parameter("depth", (1, 2, 3), ordered=True),
        Parameter("width", (8, 16), when="depth > 1", default=8),
        Parameter("flag", (False, True)),
        Parameter("ratio", (0.5, 1.0)),
    ],
    ["depth < 3 or width == 8", "depth >= 1"],
)


def parameter(description: Description, name: str) -> Description:
    return next(p for p in description["parameters"] if p["name"] == name)


def setting(name: str, key: str, value: Any) -> Callable[[Description], None]:
    return lambda description: parameter(description, name).update({key: value})


def of_top(key: str, change: Callable[[Any], Any]) -> Callable[[Description], None]:
    return lambda description: description.update({key: change(description[key])})


def merged(**values: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda before: {**before, **values}


def new(**keys: Any) -> Callable[[Description], None]:
    menu = {"name": "new", "choices": [1, 2], "ordered": False, "when": None, "default": None}
    return of_top("parameters", lambda before: [*before, {**menu, **keys}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("depth", "choices", [1, 2]), "depth no longer has the choice 3"),
        (setting("depth", "choices", [3, 2, 1]), "choices of depth stand in another order"),
        (setting("depth", "choices", [1, 3, 2, 4]), "choices of depth stand in another order"),
        (setting("depth", "choices", [1.0, 2.0, 3.0]), "depth no longer has the choice 1"),
        (setting("ratio", "choices", [0.5, 1]), r"ratio no longer has the choice 1\.0"),
        (setting("flag", "choices", [0, 1]), "flag no longer has the choice False"),
        (setting("depth", "ordered", False), "depth is no longer ordered"),
        (setting("flag", "ordered", True), "flag is now ordered"),
        (setting("width", "when", "depth > 2"), "condition of width was 'depth > 1'"),
        (setting("width", "when", None), "condition of width was 'depth > 1', now None"),
        (setting("flag", "when", "depth > 2"), "condition of flag was None"),
        (setting("width", "default", 16), "default of width was 8, now 16"),
        (setting("width", "default", None), "default of width was 8, now None"),
        (setting("flag", "default", True), "default of flag was None, now True"),
        (setting("flag", "name", "flags"), "parameter flag is gone"),
        (of_top("parameters", lambda before: before[1:]), "parameter depth is gone"),
        (new(), "parameter new is new and has no default"),
        (of_top("constraints", lambda before: before[1:]), "'depth < 3 .*' is gone"),
        (of_top("constraints", lambda before: [*before, "depth > 1"]), "'depth > 1' is new"),
        (of_top("fixed", merged(a=2)), "fixed a was 1, now 2"),
        (of_top("fixed", merged(a=1.0)), r"fixed a was 1, now 1\.0"),
        (of_top("fixed", merged(a=True)), "fixed a was 1, now True"),
        (of_top("fixed", merged(c=2)), "fixed c was absent, now 2"),
        (of_top("fixed", lambda before: {"b": "x"}), "fixed a was 1, now absent"),
        (of_top("builder", lambda before: "other:build"), "builder was none:none, now other:build"),
        (of_top("reference", merged(depth=2)), "reference depth was 1, now 2"),
        (of_top("reference", merged(flag=0)), "reference flag was False, now 0"),
        (of_top("reference", lambda before: {"depth": 1}), "reference flag was False, now absent"),
    ],
)
def test_every_other_change_is_refused_by_name(
    change: Callable[[Description], None], message: str
) -> None:
    recorded = description(BASE)
    present = copy.deepcopy(recorded)
    change(present)
    with pytest.raises(SpaceError, match=message) as caught:
        growth(recorded, present)
    assert "\n" not in str(caught.value)


def test_the_reference_may_not_take_up_an_added_parameter_other_than_by_default() -> None:
    recorded = description(BASE)
    present = copy.deepcopy(recorded)
    new(default=1)(present)
    present["reference"]["new"] = 2
    with pytest.raises(SpaceError, match="reference new was absent, now 2"):
        growth(recorded, present)


def test_what_grew_keeps_the_keys_of_what_was_there() -> None:
    grown = space_of(
        [
            Parameter("depth", (0, 1, 2, 3, 4), ordered=True),
            Parameter("new", ("x", "y"), default="y"),
            *BASE.parameters[1:],
        ],
        BASE.constraints,
    )
    recorded = {BASE.architecture(code).key for code in BASE.enumerate()}
    present = {grown.architecture(code).key for code in grown.enumerate()}
    assert recorded < present


@pytest.mark.parametrize("name", ["tiny", "pico_decoder", "codec"])
def test_shipped_spaces_are_what_they_were_recorded_as(name: str) -> None:
    recorded = json.loads(json.dumps(load_space(name).description()))
    assert str(growth(recorded, load_space(name).description())) == "nothing"
