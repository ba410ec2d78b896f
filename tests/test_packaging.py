"""What a user of the package may rely on before running anything."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ralph
from ralph.repository.genesis import genesis_recipe

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
HEAVY = ("torch", "bittensor", "bittensor_core", "numpy", "scipy", "matplotlib", "optuna")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_importing_ralph_loads_nothing_heavy() -> None:
    loaded = python(f"import sys, ralph; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == ""


def test_importing_ralph_takes_less_than_a_fifth_of_a_cpu_second() -> None:
    spent = python("import time; start = time.process_time(); import ralph; print(time.process_time() - start)")
    assert float(spent) < 0.2


@pytest.mark.parametrize("module", ["ralph.protocol.record", "ralph.judge.decide", "ralph.records.log"])
def test_reading_records_needs_no_torch(module: str) -> None:
    assert python(f"import sys, {module}; print('torch' in sys.modules)") == "False"


def test_the_recipe_and_the_package_never_import_each_other() -> None:
    recipe_files = sorted((ROOT / "recipe").rglob("*.py"))
    package_files = sorted((ROOT / "ralph").rglob("*.py"))
    assert recipe_files
    assert package_files
    assert [path for path in recipe_files if imports(path) & {"ralph", "ralph_devnet"}] == []
    assert [path for path in package_files if "recipe" in imports(path)] == []


@pytest.mark.parametrize("target", [*PROJECT["scripts"].values(), *PROJECT["entry-points"]["ralph.commands"].values()])
def test_every_entry_point_names_something_that_can_be_called(target: str) -> None:
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_lock_has_every_requirement_but_torch_with_hashes() -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", LOCK, re.MULTILINE))
    declared = {*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)}
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in declared} - {PROJECT["name"], "torch"}
    assert names - locked == set()
    assert "torch" not in locked
    for entry in re.split(r"\n(?=[a-z0-9])", LOCK):
        if "==" in entry.splitlines()[0]:
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_lock_names_no_index_and_no_host() -> None:
    assert re.findall(r"--(?:index-url|extra-index-url|find-links|trusted-host)|://|file:", LOCK) == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_both_packages_and_nothing_of_the_checkout_beside_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"ralph/__init__.py", "ralph/cli/main.py", "ralph_devnet/__init__.py"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"ralph", "ralph_devnet", f"ralph_subnet-{ralph.__version__}.dist-info"}
    assert [name for name in names if name.endswith(".pyc")] == []


def test_an_installed_wheel_seeds_the_recipe_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from ralph.repository import genesis; print(genesis.__file__, genesis.genesis_recipe().digest().hex())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    file, digest = done.stdout.split()
    assert file == str(tmp_path / "ralph" / "repository" / "genesis.py")
    assert digest == genesis_recipe().digest().hex()
