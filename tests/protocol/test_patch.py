"""Recipe trees: their paths, their listing, and two digests, one of which sees through cosmetics."""

import ast
import string
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import blob_digest, envelope
from ralph.protocol.patch import (
    FILE_MODE,
    MAX_PATH_LENGTH,
    MAX_TREE_BYTES,
    MAX_TREE_FILES,
    TREE_TAG,
    RecipeTree,
    added_lines,
    check_path,
    check_paths,
    literal_bytes,
    parse_listing,
)

RECIPE = Path(__file__).parents[2] / "recipe"
SAFE = set(string.ascii_letters + string.digits + "_.+-/")

SOURCE = '''"""Train."""
import math

RATE = 0.001
NAMES = ["a", 'b']


def schedule(step, *, warm=100):
    """Return the rate."""
    # linear, then cosine
    if step < warm:
        return RATE * step / warm
    elif step > 1_000:
        return 0
    return 0.5 * RATE * (1 + math.cos(step))


class Model:
    """A model."""

    width: int = 0x40

    def forward(self, x):
        return x, f"{x!r:>10} and {self.width}"
'''

COSMETIC = {
    "nothing": SOURCE,
    "comments": SOURCE.replace("# linear, then cosine", "# anything").replace("import math", "import math  # for cos"),
    "no docstrings": SOURCE.replace('"""Return the rate."""\n', "\n").replace('"""Train."""\n', "").replace('    """A model."""\n', ""),
    "other docstrings": SOURCE.replace("Return the rate.", "Something else entirely."),
    "blank lines": SOURCE.replace("\n", "\n\n"),
    "line ends": SOURCE.replace("\n", "\r\n"),
    "trailing spaces": SOURCE.replace(":\n", ":   \n"),
    "tabs": SOURCE.replace("    ", "\t"),
    "narrow indentation": SOURCE.replace("    ", " "),
    "a byte order mark": "\ufeff" + SOURCE,
    "a coding cookie": "# -*- coding: utf-8 -*-\n" + SOURCE,
    "quotes": SOURCE.replace('"a"', "'a'").replace("'b'", '"""b"""'),
    "escapes": SOURCE.replace('"a"', '"\\x61"').replace("'b'", r"r'b'"),
    "implicit joining": SOURCE.replace("'b'", "'' 'b'").replace('f"{x', '"" f"" f"{x').replace('width}"', 'width}" f""'),
    "exponents": SOURCE.replace("0.001", "1e-3").replace("0.5", "5e-1"),
    "digits": SOURCE.replace("1_000", "1000").replace("0x40", "64").replace("=100)", "=0b1100100)"),
    "spaces in expressions": SOURCE.replace(" / ", "/").replace("[", "[ "),
    "parentheses": SOURCE.replace("RATE * step / warm", "((RATE * step) / (warm))")
    .replace("return x, ", "return (x, ")
    .replace('}"\n', '}")\n'),
    "trailing commas": SOURCE.replace("'b']", "'b',]").replace("warm=100)", "warm=100,)"),
    "line breaks": SOURCE.replace("step / warm", "step \\\n            / warm").replace('["a",', '["a",\n\n'),
    "semicolons": SOURCE.replace("RATE = 0.001\nNAMES", "RATE = 0.001; NAMES"),
    "an else without effect": SOURCE.replace("        return 0\n", "        return 0\n    else:\n        pass\n"),
    "one-line suites": SOURCE.replace("warm:\n        return", "warm: return"),
    "elif spelled out": SOURCE.replace(
        "    elif step > 1_000:\n        return 0\n", "    else:\n        if step > 1_000:\n            return 0\n"
    ),
    "statements without effect": SOURCE.replace("RATE = 0.001\n", 'RATE = 0.001\n...\n42\n"text"\npass\n').replace(
        "    # linear", "    pass  #"
    ),
}

REAL = {
    "a name": SOURCE.replace("warm", "ramp"),
    "another name of a function": SOURCE.replace("schedule", "plan"),
    "a number": SOURCE.replace("0.001", "0.002"),
    "the last digit": SOURCE.replace("0.001", "0.0010000000000000002"),
    "a type of number": SOURCE.replace("return 0\n", "return 0.0\n"),
    "a boolean for a number": SOURCE.replace("return 0\n", "return False\n"),
    "bytes for text": SOURCE.replace('"a"', 'b"a"'),
    "text": SOURCE.replace('"a"', '"A"'),
    "an operator": SOURCE.replace("step < warm", "step <= warm"),
    "precedence": SOURCE.replace("RATE * step / warm", "RATE * (step / warm)"),
    "order": SOURCE.replace("import math\n\nRATE = 0.001\n", "RATE = 0.001\n\nimport math\n"),
    "indentation that matters": SOURCE.replace("    return 0.5", "        return 0.5"),
    "a default": SOURCE.replace("warm=100", "warm"),
    "a positional argument": SOURCE.replace("step, *, warm", "step, warm"),
    "a decorator": SOURCE.replace("class Model", "@staticmethod\nclass Model"),
    "a format": SOURCE.replace(">10", ">11"),
    "a conversion": SOURCE.replace("!r", "!s"),
    "none for nothing": SOURCE.replace("return 0\n", "return None\n"),
    "an empty return": SOURCE.replace("return 0\n", "return\n"),
    "a removed line": SOURCE.replace("RATE = 0.001\n", ""),
}

TOML = "# rate\n\n[learning_rate]\nvalue = 0.0025\nlow = 1e-4\n\n[norm]\nvalue = \"rms\"\nchoices = ['rms', 'layer']\n"
COSMETIC_TOML = {
    "nothing": TOML,
    "comments": TOML.replace("# rate", "# another rate"),
    "spaces": TOML.replace(" = ", "=").replace("\n\n", "\n\n\n"),
    "line ends": TOML.replace("\n", "\r\n"),
    "numbers": TOML.replace("0.0025", "2.5e-3").replace("1e-4", "0.000_1"),
    "quotes": TOML.replace('"rms"', '"""rms"""'),
    "order": "\n".join(reversed(TOML.replace("\n\n[norm]", "\n[norm]").split("[norm]"))).join(["[norm]", ""]),
    "dotted keys": TOML.replace("[learning_rate]\nvalue = 0.0025\nlow = 1e-4", "learning_rate.value = 0.0025\nlearning_rate.low = 1e-4"),
    "lines of an array": TOML.replace("['rms', ", "[\n  'rms',  # one\n  "),
}
REAL_TOML = {
    "a value": TOML.replace("0.0025", "0.0026"),
    "a type": TOML.replace("0.0025", "1").replace("1e-4", "1.0"),
    "text for a number": TOML.replace("0.0025", '"0.0025"'),
    "a key": TOML.replace("low", "high"),
    "a table": TOML.replace("[norm]", "[normal]"),
    "order of choices": TOML.replace("['rms', 'layer']", "['layer', 'rms']"),
}


def form(source: str | bytes, path: str = "train.py") -> bytes:
    data = source.encode("utf-8") if isinstance(source, str) else source
    return RecipeTree(files={path: data}).normalised_digest()


def refusal_of(work: Callable[[], object]) -> UntrustedInputError | None:
    """Return the refusal that ``work`` ends in, None when it is content; anything else it raises is a failure."""
    try:
        work()
    except UntrustedInputError as refusal:
        return refusal
    return None


@pytest.mark.parametrize("name", COSMETIC)
def test_a_cosmetic_edit_is_the_same_patch(name: str) -> None:
    assert form(COSMETIC[name]) == form(SOURCE)


@pytest.mark.parametrize("name", REAL)
def test_a_real_edit_is_another_patch(name: str) -> None:
    assert REAL[name] != SOURCE
    assert form(REAL[name]) != form(SOURCE)


@pytest.mark.parametrize("name", COSMETIC_TOML)
def test_formatting_of_the_configuration_is_cosmetic(name: str) -> None:
    assert form(COSMETIC_TOML[name], "base.toml") == form(TOML, "base.toml")


@pytest.mark.parametrize("name", REAL_TOML)
def test_a_value_of_the_configuration_is_real(name: str) -> None:
    assert REAL_TOML[name] != TOML
    assert form(REAL_TOML[name], "base.toml") != form(TOML, "base.toml")


def test_prose_and_empty_modules_do_not_make_a_new_patch() -> None:
    noise = {
        "README.md": b"hello",
        "layers/__init__.py": b"",
        "layers/notes.py": b'"""Notes."""\n# only a comment\npass\n',
        "x.toml": b"# nothing\n",
    }
    tree = RecipeTree(files={"train.py": SOURCE.encode()})
    assert RecipeTree(files={**tree.files, **noise}).normalised_digest() == tree.normalised_digest()
    assert RecipeTree(files={**tree.files, **noise}).digest() != tree.digest()


def test_a_moved_file_is_another_patch() -> None:
    assert form(SOURCE, "train.py") != form(SOURCE, "model.py")


def test_a_file_of_unknown_type_counts_byte_by_byte() -> None:
    assert form(b"a\n", "table.csv") != form(b"a\n\n", "table.csv")


@pytest.mark.parametrize("path", sorted(RECIPE.rglob("*.py")), ids=lambda path: path.name)
def test_the_shipped_recipe_printed_anew_is_the_same(path: Path) -> None:
    """``ast.unparse`` loses comments and layout, chooses its own quotes and parentheses, and writes numbers its own way."""
    source = path.read_text()
    assert form(ast.unparse(ast.parse(source)), path.name) == form(source, path.name)


EXPRESSION = st.recursive(
    st.sampled_from(["x", "y", "0.001", "1e-3", "10", "0xA", "'t'", '"t"', "b't'", "None", "True", "...", "1j"]),
    lambda inner: (
        st.builds("({} + {})".format, inner, inner) | st.builds("f({}, k={})".format, inner, inner) | st.builds("[{}]".format, inner)
    ),
    max_leaves=12,
)


@given(expression=EXPRESSION)
def test_any_expression_printed_anew_is_the_same(expression: str) -> None:
    assert form(f"a = {expression}") == form(ast.unparse(ast.parse(f"a = {expression}")))


@given(first=EXPRESSION, second=EXPRESSION)
def test_expressions_of_equal_form_have_equal_syntax_trees(first: str, second: str) -> None:
    equal = ast.dump(ast.parse(f"a = {first}")) == ast.dump(ast.parse(f"a = {second}"))
    assert (form(f"a = {first}") == form(f"a = {second}")) == equal


HOSTILE = {
    "nothing readable": b"\xff\xfe\x00\x01",
    "a null byte": b"x = 1\0",
    "no grammar": b"def def def",
    "open brackets": b"[" * 50_000,
    "nested brackets": b"x = " + b"[" * 150 + b"]" * 150,
    "nested braces": b"x = " + b"{a:" * 150 + b"1" + b"}" * 150,
    "nested parentheses": b"x = " + b"(" * 199 + b"1" + b")" * 199,
    "a chain of minus": b"x = " + b"-" * 60_000 + b"1",
    "a chain of not": b"x = " + b"not " * 15_000 + b"1",
    "a chain of plus": b"x = 1" + b"+1" * 30_000,
    "a chain of attributes": b"x" + b".a" * 30_000,
    "a chain of lambdas": b"x = " + b"lambda:" * 9_000 + b"1",
    "a chain of elif": b"if a: b\n" + b"elif a: b\n" * 6_000,
    "a huge integer": b"x = " + b"1" * 60_000,
    "a huge hexadecimal integer": b"x = 0x" + b"f" * 200_000,
    "an infinite float": b"x = 1e999999",
    "lone surrogates": b"x = '\\ud800'",
    "an unknown encoding": b"# coding: klingon\nx = 1",
    "another encoding": b"# coding: utf-7\nx = 1",
    "a slow encoding": b"# coding: punycode\n" + b"a-" * 20_000,
    "an invalid escape": b"x = '\\d'",
    "open strings": b"'''\\''''\"\"\"\\\"\"\"" * 5_000,
    "open triple quotes in turn": b"\"\"\"\\\"\"\"'''\\'''" * 5_000,
    "deep indentation": b"".join(b" " * depth + b"if x:\n" for depth in range(99)) + b" " * 99 + b"y\n",
    "very many constants": b"x = [" + b"1," * 30_000 + b"]",
    "later grammar": b"type X = int\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_source_has_a_form_of_its_own(name: str) -> None:
    assert form(HOSTILE[name]) == form(HOSTILE[name])
    assert form(HOSTILE[name]) != form(HOSTILE[name] + b"\nx = 2")
    assert literal_bytes(b"", HOSTILE[name]) <= len(HOSTILE[name])


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 30_000,
        b"a = " + b"[" * 200 + b"]" * 200,
        b".".join([b"a"] * 50_000) + b" = 1",
        b"[" + b".".join([b"a"] * 50_000) + b"]",
        b"a = {" + b"b = {" * 500 + b"}" * 501,
        b"a = " + b"9" * 60_000,
        b"a = 0x" + b"f" * 60_000,
        b"a = 1\na = 2\n",
        b"\xff",
        b"a = nan",
        b"a = 1979-05-27T07:32:00Z",
        b'"\\ud800" = 1',
    ],
)
def test_a_hostile_configuration_has_a_form_of_its_own(data: bytes) -> None:
    assert form(data, "x.toml") == form(data, "x.toml")
    assert form(data, "x.toml") != form(data + b"\nx = 2", "x.toml")


def test_the_form_does_not_depend_on_how_deep_the_caller_is() -> None:
    """Recursion limits of the interpreter count the caller's frames; ours do not."""

    def deep(frames: int, source: bytes) -> bytes:
        return deep(frames - 1, source) if frames else form(source)

    for source in (b"x = 1" + b"+1" * 95, b"x = 1" + b"+1" * 300, b"x = " + b"(" * 90 + b"1" + b")" * 90):
        assert deep(600, source) == form(source)


@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=200)
def test_any_bytes_have_a_form(data: bytes) -> None:
    for path in ("x.py", "x.toml", "x.md", "x.csv"):
        assert len(form(data, path)) == 32


@given(before=st.binary(max_size=100), after=st.binary(max_size=100))
def test_opaque_bytes_and_lines_are_counted_from_nothing_up(before: bytes, after: bytes) -> None:
    assert literal_bytes(after, after) == added_lines(after, after) == 0
    assert 0 <= literal_bytes(before, after) <= len(after)
    assert 0 <= added_lines(before, after) <= after.count(b"\n") + 1


@pytest.mark.parametrize(
    ("source", "opaque"),
    [
        ("x = 'abc'", 5),
        ('x = rb"a\\"c"', 6),
        ("x = '''a\nb'''", 9),
        ("x = 1.5e3 + 0xff", 9),
        ("x = y  # why", 5),
        ("x = '# no comment'", 14),
        ("x = '\\''  # it's", 10),
        ('x = f"{a}bc"', 7),
        ("x = '''never\nends", 13),
        ("x = 'never\nends = y", 6),
        ("short_name = other_name", 0),
        ("n" * 33, 33),
        ("", 0),
    ],
)
def test_opaque_bytes_are_strings_numbers_comments_and_long_names(source: str, opaque: int) -> None:
    assert literal_bytes(b"", source.encode()) == opaque


def test_old_literals_do_not_pay_for_new_ones() -> None:
    assert literal_bytes(b"x = 'aaaaaaaa'", b"x = 'bbbbbbbb'") == 10
    assert literal_bytes(b"x = 'aaaaaaaa'", b"y = 'aaaaaaaa'") == 0
    assert literal_bytes(b"x = 1", b"x = 1\ny = 1\nz = 1") == 2


def test_other_files_are_opaque_line_by_line() -> None:
    assert literal_bytes(b"a = 1\nb = 2\n", b"a = 1\n  b = 3\n", path="base.toml") == 5


def test_lines_are_counted_wherever_they_stand() -> None:
    assert added_lines(b"a\nb\n", b"b\na\n") == 0
    assert added_lines(b"a\n", b"a\na\na") == 2
    assert added_lines(b"", b"\n\n") == 2


@given(
    path=st.text(max_size=30)
    | st.text(alphabet="ab./\\ -_~\n\0é", max_size=12)
    | st.lists(st.sampled_from(["..", ".", "", "a", "a.py", "-x"])).map("/".join)
)
@settings(max_examples=300)
def test_an_accepted_path_stays_below_and_needs_no_quoting(path: str) -> None:
    refusal = refusal_of(lambda: check_path(path))
    if refusal is not None:
        assert refusal.code == "INT-SCOPE"
        assert refusal.detail.isascii()
        assert refusal.detail.isprintable()
        return
    assert set(path) <= SAFE
    assert str(PurePosixPath(path)) == path
    assert not PurePosixPath(path).is_absolute()
    assert all(part[0] not in ".-" and part[-1] != "." for part in PurePosixPath(path).parts)
    assert len(path) <= MAX_PATH_LENGTH


@pytest.mark.parametrize("path", ["model.py", "config/base.toml", "a/b/c-d_e.1+2.py", "_x", "0", "a" * MAX_PATH_LENGTH])
def test_an_ordinary_path_is_accepted(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/./b",
        "../a",
        "a/..",
        ".git",
        "a/.x",
        "a b",
        "a\n",
        "a\0",
        "a\\b",
        "a:b",
        "-rf",
        "a/-x",
        "a.",
        "CON.",
        "é",
        "a" * 201,
    ],
)
def test_a_path_that_could_surprise_is_refused(path: str) -> None:
    with pytest.raises(UntrustedInputError, match="INT-SCOPE"):
        check_path(path)


@pytest.mark.parametrize("pair", [("a.py", "A.py"), ("d/a.py", "D/b.py"), ("a", "a/b"), ("a/b", "A"), ("x/a/b", "x/a")])
def test_paths_that_are_one_on_some_file_system_are_refused(pair: tuple[str, str]) -> None:
    for paths in (pair, pair[::-1]):
        with pytest.raises(UntrustedInputError, match="INT-SCOPE"):
            check_paths(paths)
        with pytest.raises(UntrustedInputError, match="INT-SCOPE"):
            RecipeTree(files=dict.fromkeys(paths, b""))


def test_a_tree_has_limits() -> None:
    RecipeTree(files={f"f{number}": b"" for number in range(MAX_TREE_FILES)})
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        RecipeTree(files={f"f{number}": b"" for number in range(MAX_TREE_FILES + 1)})
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        RecipeTree(files={"a": bytes(MAX_TREE_BYTES), "b": b"1"})


PATHS = st.lists(st.text(alphabet="abc", min_size=1, max_size=3), min_size=1, max_size=3).map(
    lambda parts: "/".join([*parts[:-1], f"{parts[-1]}.py"])
)
TREES = st.dictionaries(PATHS, st.binary(max_size=8), max_size=6).map(lambda files: RecipeTree(files=files))


@given(tree=TREES)
def test_a_listing_reads_back_and_is_found_under_its_digest(tree: RecipeTree) -> None:
    assert parse_listing(tree.to_bytes()) == {path: blob_digest(data) for path, data in tree.files.items()}
    assert blob_digest(tree.to_bytes()) == tree.digest()


@given(first=TREES, second=TREES)
def test_two_trees_have_one_digest_only_if_they_are_equal(first: RecipeTree, second: RecipeTree) -> None:
    assert (first.digest() == second.digest()) == (first == second)


@given(data=st.binary(max_size=120))
def test_bytes_that_are_no_listing_are_refused(data: bytes) -> None:
    for hostile in (data, envelope(TREE_TAG, [])[:-1] + data):
        refusal = refusal_of(lambda hostile=hostile: parse_listing(hostile))
        assert refusal is None or refusal.code in ("INT-SCHEMA", "INT-SCOPE", "INT-SIZE")


@given(tree=TREES, at=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_a_changed_listing_is_refused_or_another_listing(tree: RecipeTree, at: int, flip: int) -> None:
    data = bytearray(tree.to_bytes())
    data[at % len(data)] ^= flip
    try:
        parsed = parse_listing(bytes(data))
    except UntrustedInputError:
        return
    assert parsed != parse_listing(tree.to_bytes())


D = b"d" * 32


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ({}, "INT-SCHEMA"),
        ([["a.py", FILE_MODE]], "INT-SCHEMA"),
        ([["a.py", FILE_MODE, D, 1]], "INT-SCHEMA"),
        ([["a.py", "100755", D]], "INT-SCHEMA"),
        ([["a.py", "120000", D]], "INT-SCHEMA"),
        ([["a.py", FILE_MODE, D[:31]]], "INT-SCHEMA"),
        ([["a.py", FILE_MODE, D.hex()]], "INT-SCHEMA"),
        ([[b"a.py", FILE_MODE, D]], "INT-SCHEMA"),
        ([["b.py", FILE_MODE, D], ["a.py", FILE_MODE, D]], "INT-SCHEMA"),
        ([["a.py", FILE_MODE, D], ["a.py", FILE_MODE, D]], "INT-SCHEMA"),
        ([[f"f{number:03}", FILE_MODE, D] for number in range(MAX_TREE_FILES + 1)], "INT-SCHEMA"),
        ([["../a.py", FILE_MODE, D]], "INT-SCOPE"),
        ([["/a.py", FILE_MODE, D]], "INT-SCOPE"),
        ([["A.py", FILE_MODE, D], ["a.py", FILE_MODE, D]], "INT-SCOPE"),
    ],
)
def test_a_listing_that_no_tree_has_is_refused(rows: object, code: str) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        parse_listing(envelope(TREE_TAG, rows))
    assert refusal.value.code == code


def test_the_largest_tree_fits_the_limit_of_a_listing() -> None:
    tree = RecipeTree(files={f"{number:03}{'x' * (MAX_PATH_LENGTH - 3)}": b"" for number in range(MAX_TREE_FILES)})
    assert len(parse_listing(tree.to_bytes())) == MAX_TREE_FILES


def test_digests_of_version_one_never_change() -> None:
    tree = RecipeTree(files={"train.py": SOURCE.encode(), "base.toml": TOML.encode(), "README.md": b"# x\n", "t.csv": b"1,2\n"})
    assert tree.digest().hex() == "83eca8469ab1d4e5d136b088b4629b82a2082e581a944d08d6e1297a41bc87f5"
    assert tree.normalised_digest().hex() == "f0497360911d59e6df5b184dd74ffe93325f62bafb92c4736baf6377873f56a0"
