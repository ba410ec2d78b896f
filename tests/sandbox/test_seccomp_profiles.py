"""The filter that a container engine is given lets through what the BPF program lets through, for every architecture."""

import importlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ralph.sandbox.seccomp import GPU_PROGRAMS, PROGRAMS, RANKS_PROGRAMS
from tests.sandbox.test_seccomp import ALLOWED, EPERM, run

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROFILES = Path(__file__).parents[2] / "ralph" / "sandbox" / "profiles"
BPF = {"": PROGRAMS, "-ranks": RANKS_PROGRAMS, "-gpus": GPU_PROGRAMS}
CASES = [(name, kind) for name in sorted(PROGRAMS) for kind in BPF]
ERRNO = 0x00050000
INTERESTING = (0, 1, 2, 5, 6, 17, 0x11, 0x5401, 0x5412, 0x541B, 0x541C, 0x541D, 0x80801, 0x3D0F00, 0x7E020000, 0x1_0000_0001, 0x1_0000_5412)

Profile = dict[str, Any]


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("make_seccomp_profiles")


def committed(name: str, kind: str) -> Profile:
    read: Profile = json.loads((PROFILES / f"{name}{kind}.json").read_text())
    return read


def actions(profile: Profile, called: str, arguments: tuple[int, ...]) -> set[int]:
    """Return what the rules of a profile say of one system call, as a BPF program would return it."""
    found = set()
    for rule in profile["syscalls"]:
        if called in rule["names"] and all(_meets(condition, arguments) for condition in rule["args"]):
            found.add(ALLOWED if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule["errnoRet"])
    return found or {ERRNO | profile["defaultErrnoRet"]}


def _meets(condition: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    assert condition["op"] == "SCMP_CMP_MASKED_EQ"
    return arguments[condition["index"]] & condition["value"] == condition["valueTwo"]


def test_the_generator_reproduces_the_committed_profiles(generator: ModuleType) -> None:
    assert {file.name: file.read_text() for file in PROFILES.iterdir()} == generator.files()


def test_the_table_of_calls_agrees_with_the_one_of_denied_calls(generator: ModuleType) -> None:
    tables = generator.tables
    for column, name in enumerate(tables.ARCHITECTURES):
        known = generator.numbers(name)
        expected = {call: numbers[column] for call, numbers in tables.DENIED.items() if numbers[column] is not None}
        assert {call: known[call] for call in expected} == expected
        assert max(known.values()) == tables.NEWEST_KNOWN_CALL


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_both_filters_say_the_same_of_every_call_whose_arguments_do_not_matter(generator: ModuleType, name: str, kind: str) -> None:
    program = BPF[kind][name]
    profile, audit = committed(name, kind), generator.tables.ARCHITECTURES[name]
    for called, number in generator.numbers(name).items():
        if called not in {"clone", "socketpair", "ioctl", *(("socket", "setsockopt") if kind else ())}:
            assert actions(profile, called, (0,) * 6) == {run(program, audit, number)}, called


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_both_filters_say_the_same_of_every_argument_and_no_rules_contradict(generator: ModuleType, name: str, kind: str) -> None:
    program = BPF[kind][name]
    profile, audit, known = committed(name, kind), generator.tables.ARCHITECTURES[name], generator.numbers(name)
    single = [1 << bit for bit in range(32)]
    near = [generator.tables.TIOCSTI ^ bit for bit in single] + [generator.tables.TIOCLINUX ^ bit for bit in single]
    values = [(value, other, last) for value, other, last in product(INTERESTING, repeat=3)]
    values += [(value, value, 0) for value in (*single, *near)]
    for called in ("clone", "socketpair", "ioctl", "socket", "setsockopt"):
        for value in values:
            arguments = (*value, 0, 0, 0)
            said, expected = actions(profile, called, arguments), run(program, audit, known[called], *arguments)
            assert said == {expected}, (called, value)
            assert expected in (ALLOWED, EPERM)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_profile_is_for_one_architecture_and_refuses_what_it_does_not_name(name: str, kind: str) -> None:
    profile = committed(name, kind)
    assert profile["architectures"] == [f"SCMP_ARCH_{name.upper()}"]
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert actions(profile, "a_call_of_tomorrow", (0,) * 6) == {0x00050026}


def test_neither_of_two_is_met_by_every_other_number(generator: ModuleType) -> None:
    rules = generator.neither(5, 12)
    met = {number for number in range(256) if any(number & mask == value for mask, value in rules)}
    assert met == set(range(256)) - {5, 12}
