"""Space files that are wrong: one line each, which names the file, the key and what was meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from space_files import HEAD, SCALE, refused, written

from search_spaces.load import load_space
from search_spaces.space import SpaceError

PLAIN = "parameters:\n  depth: {ordered: [1, 2, 3]}\n  block: {choices: [residual, inverted]}\n"
REFERENCE = "reference: {depth: 1, block: residual}\n"
STAGE = SCALE + "stages: {top: {template: scale}}\nreference: {top: {depth: 1}}\n"


def with_block(definition: str) -> str:
    return f"parameters:\n  depth: {{ordered: [1, 2, 3]}}\n  block: {definition}\n{REFERENCE}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN + REFERENCE + "constraints: [depht > 1]", r"constraints\[0\]: .*mean 'depth'"),
        (with_block("{choices: [x], when: depht > 1}"), "parameters.block.when: .*mean 'depth'"),
        (with_block("{choices: [x], when: {depht: 1}}"), "parameters.block.when: .*mean 'depth'"),
        (PLAIN + "reference: {depht: 1}", "reference: .*mean 'depth'"),
        (STAGE.replace("depth > 1", "dept > 1"), "stages.top.width.when: .*mean 'depth'"),
        (STAGE.replace("depth < 3 ", "dept < 3 "), "stages.top: .*constraints.0.: .*mean 'depth'"),
        (STAGE.replace("{template: scale}", "{template: scala}"), "stages.top: .*mean 'scale'"),
        (STAGE.replace("{template: scale}", "{depth: 1}"), "stages.top: template: is missing"),
        (STAGE.replace("e: scale}", "e: scale, dept: 1}"), "stages.top.dept: .*mean 'depth'"),
        (STAGE.replace("{top: {depth", "{tip: {depth"), "reference: .*'tip.depth'; .*'top.depth'"),
        ("include: [tini]", "include: no search space 'tini'.*mean 'tiny'"),
        ("include: [nowhere.yaml]", "include: no search space at .*nowhere.yaml"),
        (f"include: [{'a' * 300}.yaml]", "include: .*too long"),
        ("parametres: {}", "parametres: unknown key; did you mean 'parameters'"),
        (with_block("{choise: [x]}"), "parameters.block.choise: unknown key; .*mean 'choices'"),
        (
            SCALE.replace("ordered: [8", "orderd: [8"),
            "templates.scale.parameters.width.orderd: .*mean 'ordered'",
        ),
        (SCALE.replace("parameters", "params"), "templates.scale.p.*: "),
    ],
)
def test_what_is_not_known_is_named_with_what_is_nearest(
    tmp_path: Path, text: str, message: str
) -> None:
    matches(refused(written(tmp_path, HEAD + text)), message)


@pytest.mark.parametrize(
    ("menu", "message"),
    [
        ("{choices: [1, two]}", "mixed types"),
        ("{choices: [true, 1]}", "mixed types"),
        ("{choices: [1, 1.0]}", "mixed types"),
        ("{choices: [1, 1]}", "repeat a value"),
        ("{choices: [x, x]}", "repeat a value"),
        ("{choices: []}", "at least 1"),
        ("{choices: x}", "valid list"),
        ("{choices: }", "needs either choices or ordered"),
        ("{ordered: [1, 2], choices: [1, 2]}", "needs either choices or ordered"),
        ("{}", "needs either choices or ordered"),
        ("{ordered: [1, 3, 2]}", "rise or fall"),
        ("{ordered: [true, false]}", "no order"),
        ("{choices: [1, 2], default: 3}", "default 3 is none"),
        ("{choices: [1, 2], default: true}", "default True is none"),
        ("{choices: [1, 2], default: 1.0}", "default 1.0 is none"),
        ("{choices: [0.5, .nan]}", r"choices\[1\]: numbers must be finite"),
        ("{choices: [0.5, -.inf]}", r"choices\[1\]: numbers must be finite"),
        (f"{{choices: [1, {'9' * 400}]}}", r"choices\[1\]: numbers .* end at 2\*\*53"),
        (f"{{choices: [1, {'9' * 5000}]}}", "line 5: '999.* is no int"),
        ("{choices: [[1], [2]]}", r"choices\[0\]: must be a number, text, true or false"),
        ("{choices: [null]}", r"choices\[0\]: must be a number, text, true or false"),
        ("{choices: [2020-01-01]}", r"choices\[0\]: must be a number, text, true or false"),
        ("{choices: [2020-99-99]}", "'2020-99-99' is no timestamp"),
        ("{choices: [!!timestamp x]}", "'x' is no timestamp"),
        ("{choices: !!set {a, b}}", "read as 'set'"),
        ("{choices: [!!int x]}", "'x' is no int"),
        ("{choices: [!!bool x]}", "'x' is no bool"),
        ('{choices: ["two\\nlines"]}', "printable"),
        ('{choices: ["\'\\""]}', "one kind of quotes"),
        ("{choices: [x], when: true}", "when: .*valid string"),
        ("{choices: [x], when: [1]}", "when: .*valid string"),
        ("{choices: [x], when: {}}", "when: .*at least 1"),
        ("{choices: [x], when: {depth: []}}", r"when.depth: .*at least 1"),
        ("{choices: [x], when: {depth: [[1]]}}", r"when.depth\[0\]: must be a number"),
        ("{choices: [x], when: {depth: 4}}", "depth is never 4"),
        ("{choices: [x], when: {depth: deep}}", "never equal"),
        ("{choices: [x], when: block == 'x'}", "circle: block needs block"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(tmp_path: Path, menu: str, message: str) -> None:
    text = refused(written(tmp_path, HEAD + with_block(menu)))
    assert "parameters.block" in text or "line 5" in text
    matches(text, message)


@pytest.mark.parametrize(
    "name",
    [
        *("and", "or", "not", "in", "implies", "true", "top.in", "template"),
        *("", "a b", "größe", "a..b", "1a", "a-b", "a" * 101),
    ],
)
@pytest.mark.parametrize("place", ["parameters", "templates", "stages", "fixed"])
def test_names_that_no_expression_could_read_are_refused(
    tmp_path: Path, place: str, name: str
) -> None:
    own = {
        "parameters": f"parameters: {{{name!r}: {{choices: [1]}}}}",
        "templates": f"templates: {{{name!r}: {{parameters: {{a: {{choices: [1]}}}}}}}}",
        "stages": SCALE + f"stages: {{{name!r}: {{template: scale}}}}",
        "fixed": PLAIN + REFERENCE + f"fixed: {{{name!r}: 1}}",
    }[place]
    matches(refused(written(tmp_path, HEAD + own)), f"{place}.*(name is made of|word of the lang)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN + REFERENCE + "constraints: [depth ~ 1]", r"constraints\[0\]: .*means nothing"),
        (PLAIN + REFERENCE + "constraints: [import os]", r"constraints\[0\]: "),
        (PLAIN + REFERENCE + "constraints: [block == residual]", "in quotes"),
        (PLAIN + REFERENCE + "constraints: [1]", r"constraints\[0\]: .*valid string"),
        (PLAIN + REFERENCE + "constraints: depth > 1", "constraints: .*valid list"),
        (PLAIN + REFERENCE + f"constraints: [{'depth > 0 and ' * 300}depth > 0]", "longer than"),
        (PLAIN + REFERENCE + f"constraints: [{'(' * 99}depth > 0{')' * 99}]", "nested more"),
        (PLAIN + REFERENCE + "constraints: [depth > 1]", "reference: .*violates 'depth > 1'"),
        (PLAIN + "reference: {depth: 1}", "reference: mine: block has no value"),
        (PLAIN + "reference: {depth: 4}", r"depth is one of \[1, 2, 3\], not 4"),
        (PLAIN + "reference: {depth: 1.0}", r"depth is one of \[1, 2, 3\], not 1.0"),
        (PLAIN + "reference: {depth: [1]}", "reference.depth: must be a number"),
        (PLAIN + "reference: {depth: }", "reference.depth: must be a number"),
        (PLAIN + REFERENCE + "fixed: {a: .nan}", "fixed.a: numbers must be finite"),
        (PLAIN + REFERENCE + "fixed: {a: [1, 2]}", "fixed.a: must be a number"),
        (PLAIN + REFERENCE + "fixed: {a: {b: 1}, a.b: 2}", "fixed.a.b: stands twice"),
        (PLAIN + REFERENCE + "fixed: {depth: 1}", "parameters.depth: is also under fixed"),
        (STAGE + "fixed: {top: {depth: 1}}", "stages.top.depth: is also under fixed"),
        (STAGE.replace("scale}}", "scale, depth: 1}}\nfixed: {top.depth: 2}", 1), "under fixed"),
        (STAGE + "parameters: {top.depth: {choices: [1]}}", "top.depth stands twice, first at"),
        (STAGE.replace("e: scale}", "e: scale, block: [wide]}"), "stages.top.block: its default"),
        (STAGE.replace("e: scale}", "e: scale, depth: []}"), "stages.top.depth: .*at least 1"),
        (STAGE.replace("e: scale}", "e: scale, depth: [[1]]}"), r"stages.top.depth\[0\]: must be"),
        (STAGE.replace("e: scale}", "e: scale, depth: {a: 1}}"), "stages.top.depth: must be"),
        (STAGE.replace("e: scale}", "e: scale, depth: [1, 3, 2]}"), "top.depth: ordered numbers"),
        (STAGE.replace("{template: scale}", ""), "stages.top: .*dictionary"),
        ("include: [codec]\npaired_encoder: {scaled: true}", "paired_encoder: .*searches encoder"),
        (PLAIN + REFERENCE + "paired_encoder: {a: 1}\nfixed: {encoder.a: 2}", "also under fixed"),
        (PLAIN, "reference: is missing"),
        ("reference: {}", "parameters: is missing"),
        ("name: [1]", "stands twice"),
        ("include: tiny", "include: .*valid list"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    matches(refused(written(tmp_path, HEAD + text)), message)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("builder: search_spaces.codec.family:build_design", "name: is missing"),
        ("name: mine", "builder: is missing"),
        ("name: mine\nbuilder: search_spaces.codec.family:build_desing", "mean 'build_design'"),
        ("name: mine\nbuilder: search_spaces.codek:build", "builder: cannot import"),
        ("name: mine\nbuilder: ./nowhere.py:build", "builder: cannot import"),
        ("name: mine\nbuilder: ./broken.py:build", "builder: cannot import .*invalid syntax"),
        ("name: mine\nbuilder: search_spaces.codec.family:SCALES", "builder: .* is no function"),
        ("name: mine\nbuilder: nothing", "is not package.module:Name"),
        ("name: mine\nbuilder: ':build'", "is not package.module:Name"),
        ("name: mine\nbuilder: ..codec:build", "is not package.module:Name"),
        ('name: "two\\nlines"\nbuilder: a:b', "name: must be one line"),
    ],
)
def test_builders_and_names_that_are_none_are_refused(
    tmp_path: Path, head: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text("def build(:\n")
    matches(refused(written(tmp_path, f"{head}\n{PLAIN}{REFERENCE}")), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping"),
        ("- 1", "expected a mapping"),
        ("a: [", "line 1: "),
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands twice"),
        ("fixed: {a: {b: 1, b: 2}}", "line 1: key 'b' stands twice"),
        ("parameters:\n  on: {choices: [1]}", "line 2: key True is no text; put it in quotes"),
        ("fixed: {1: 2}", "line 1: key 1 is no text"),
        ("? [a, b]\n: 1", "line 1: key .* is no text"),
        ("a: &a {b: 1}\nc: {<<: *a}", "line 2: '<<' is read as 'merge'"),
        ("a: 1\n---\nb: 2", "single document"),
        ("!!python/object:os.system {}", "line 1: this is read as 'python/object:os.system'"),
        ("a: !mine b", "line 1: 'b' is read as '!mine'"),
        ("a: *b", "undefined alias"),
        ("a: &a [*a]", "holds itself"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "{a: " * 5000 + "1" + "}" * 5000, "nested too deeply"),
        (b"a: \x00", "not allowed"),
        (bytes(range(256)), "can't decode"),
        (b"# " + bytes(2 * 10**6), "larger than 1,000,000 bytes"),
        (f"a: &a [{'x, ' * 999}x]\nb: [{'*a, ' * 100}x]", "line 2: .* more than 100,000 values"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    matches(refused(written(tmp_path, text)), message)


def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    matches(refused(written(tmp_path, "\n".join(lines))), "line 5: its aliases stand for more")


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c"]])
def test_conditions_in_a_circle_are_named_in_order(tmp_path: Path, names: list[str]) -> None:
    after = dict(zip(names, [*names[1:], names[0]], strict=True))
    menus = "".join(f"  {n}: {{choices: [1, 2], when: {after[n]} == 1}}\n" for n in names)
    text = refused(written(tmp_path, f"{HEAD}parameters:\n{menus}reference: {{}}"))
    first = text.split("circle: ")[1].split(" ")[0]
    circle = [first]
    for _ in names:
        circle.append(after[circle[-1]])
    assert text.endswith(f"conditions in a circle: {' needs '.join(circle)}")


def test_contradictory_constraints_are_named_and_no_others(tmp_path: Path) -> None:
    rules = ["depth >= 1", "depth < 3", "block == 'residual'", "depth > 1", "depth != 2"]
    text = refused(written(tmp_path, f"{HEAD}{PLAIN}{REFERENCE}constraints: {rules}"))
    named = "constraints: no architecture satisfies 'depth < 3' and 'depth > 1' and 'depth != 2'"
    assert text.endswith(named)


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    for name, other in (("mine", "b"), ("b", "c"), ("c", "mine")):
        written(tmp_path, f"include: [{other}.yaml]", f"{name}.yaml")
    text = refused(tmp_path / "mine.yaml")
    assert "files in a circle" in text
    assert text.index("b.yaml includes") < text.index("c.yaml includes")
    assert "circle" in refused(written(tmp_path, "include: [mine.yaml]"))


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    written(tmp_path, "parameters: {a: {choices: []}}", "base.yaml")
    with pytest.raises(SpaceError, match=r"base\.yaml: parameters\.a\.choices"):
        load_space(written(tmp_path, HEAD + "include: [base.yaml]"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("parameters: {a: {choices: [1]}}", "parameters: {a: {choices: [1]}}"),
        ("parameters: {a: {choices: [1]}}", "fixed: {a: 1}"),
        ("fixed: {a: 1}", "parameters: {a: {choices: [1]}}"),
        ("fixed: {a: 1}", "fixed: {a: 2}"),
        (SCALE, SCALE),
    ],
)
def test_files_that_are_included_together_do_not_outvote_each_other(
    tmp_path: Path, first: str, second: str
) -> None:
    written(tmp_path, first, "first.yaml")
    written(tmp_path, second, "second.yaml")
    with pytest.raises(SpaceError, match=r"stands (twice|in two of the files)"):
        load_space(written(tmp_path, HEAD + "include: [first.yaml, second.yaml]"))


def test_an_own_template_of_an_included_name_is_refused(tmp_path: Path) -> None:
    written(tmp_path, SCALE, "base.yaml")
    text = refused(written(tmp_path, HEAD + "include: [base.yaml]" + SCALE))
    assert "templates.scale: stands in an included file too" in text


def matches(text: str, message: str) -> None:
    assert re.search(message, text), text
