import sys
from pathlib import Path

import pytest

from ralph.errors import InfrastructureError
from ralph.protocol.network import LADDER
from ralph.sandbox.files import program_files, recipe_files
from ralph.sandbox.interpreter import describe
from ralph.sandbox.limits import MAX_COPIED_BYTES, limits_for

RUNG = LADDER[0].model_copy(update={"max_memory_bytes": 2 << 30, "timeout_s": 600})


def test_the_rung_fixes_memory_and_time() -> None:
    limits = limits_for(RUNG)
    assert (limits.memory_bytes, limits.timeout_s, limits.threads) == (2 << 30, 600.0, 1)
    assert limits.tmp_bytes <= limits.memory_bytes


def test_a_recipe_of_too_many_bytes_is_refused(recipe: Path) -> None:
    with (recipe / "large.bin").open("wb") as file:
        file.truncate(MAX_COPIED_BYTES)
    with pytest.raises(InfrastructureError, match="bytes"):
        recipe_files(recipe, "/recipe")


def test_caches_and_repositories_stay_outside(recipe: Path) -> None:
    for folder in ("__pycache__", ".git", "config"):
        (recipe / folder).mkdir()
        (recipe / folder / "file").write_text(folder)
    assert [file.target for file in recipe_files(recipe, "/recipe")] == ["/recipe/train.py", "/recipe/config/file"]


def test_the_bootstrap_and_the_wire_format_go_inside_byte_for_byte() -> None:
    package = Path(__file__).parents[2] / "ralph"
    files = {file.target: file.data for file in program_files("/worker")}
    assert files["/worker/ralph/train/wire.py"] == (package / "train" / "wire.py").read_bytes()
    assert files["/worker/bootstrap.py"] == (package / "sandbox" / "bootstrap.py").read_bytes()


def test_an_interpreter_needs_its_library_and_not_its_whole_prefix() -> None:
    interpreter = describe(Path(sys.executable))
    assert interpreter.executable == interpreter.executable.resolve()
    assert Path("/usr") not in interpreter.home
    assert Path(sys.base_prefix) not in interpreter.home
    assert all(path.exists() for path in (*interpreter.home, *interpreter.system, *interpreter.packages))
