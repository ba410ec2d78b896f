"""What a worker finds inside."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.errors import InfrastructureError, SandboxUnavailable, UntrustedInputError
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import MAX_FILES
from ralph.sandbox.options import Program

Say = Callable[[str], str]
LIMITS = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=30.0)


def test_the_recipe_is_a_read_only_copy_even_when_its_folder_is_private(say: Say, recipe: Path) -> None:
    assert say("open('/recipe/train.py').read()") == "VALUE = 42\n"
    assert say("os.access('/recipe', os.W_OK), os.access('/recipe/train.py', os.W_OK)") == "(False, False)"


def test_no_path_of_the_recipe_on_the_host_is_visible(say: Say, recipe: Path) -> None:
    assert str(recipe.parent) not in say(
        "open('/proc/self/mountinfo').read() + open('/proc/1/cmdline').read() + open('/proc/mounts').read()"
    )


def test_links_in_a_recipe_are_not_followed(say: Say, recipe: Path) -> None:
    (recipe / "link.py").symlink_to("/etc/passwd")
    (recipe / "folder").symlink_to("/etc")
    os.mkfifo(recipe / "pipe")
    assert say("sorted(os.listdir('/recipe'))") == "['train.py']"


def test_a_recipe_of_too_many_files_is_refused_before_anything_starts(sandbox: BubblewrapSandbox, recipe: Path) -> None:
    for number in range(MAX_FILES):
        (recipe / f"file{number}.py").touch()
    with pytest.raises(InfrastructureError, match="more than"), sandbox.launch(SandboxSpec(recipe=recipe, limits=LIMITS)):
        pass


def test_a_recipe_that_does_not_exist_is_ours_to_repair(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="not a folder"), sandbox.launch(SandboxSpec(recipe=tmp_path / "absent", limits=LIMITS)):
        pass


def test_of_our_code_only_the_wire_format_and_the_worker_are_inside(say: Say) -> None:
    files = say("sorted(os.path.join(parent, name) for parent, _, names in os.walk('/worker/ralph') for name in names)")
    assert "/worker/ralph/train/wire.py" in files
    assert "/worker/ralph/worker/__init__.py" in files
    assert "sandbox" not in files
    assert "protocol" not in files


def test_our_code_is_found_before_any_installed_package_of_the_same_name(say: Say) -> None:
    assert say("__import__('ralph.train.wire').__file__") == "/worker/ralph/__init__.py"
    assert say("sys.path[-2:]") == "['/worker', '/packages/0']"


def test_installed_packages_can_be_imported(say: Say) -> None:
    assert say("__import__('cbor2').loads(b'\\x01')") == "1"


def test_string_hashes_repeat_from_one_sandbox_to_the_next(say: Say) -> None:
    assert say("hash('recipe')") == say("hash('recipe')")


def test_the_threads_that_the_limits_allow_reach_numerical_libraries(say: Say) -> None:
    assert say("os.environ['OMP_NUM_THREADS']") == "1"


def test_the_limits_hold_before_the_program_starts(say: Say) -> None:
    kinds = "RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE"
    assert say(f"[__import__('resource').getrlimit(getattr(__import__('resource'), kind))[1] for kind in {kinds}]") == str(
        [256 << 20, 32, 64, 16 << 20, 0]
    )


def test_scratch_has_the_size_of_the_limits(say: Say) -> None:
    assert say("os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize") == str(8 << 20)


def test_a_program_that_does_not_exist_is_reported_with_what_it_printed(sandbox: BubblewrapSandbox, recipe: Path) -> None:
    launch = sandbox.running(Program(module="absent")).launch(SandboxSpec(recipe=recipe, limits=LIMITS))
    with launch as worker:
        with pytest.raises(UntrustedInputError, match="exit code 1"):
            worker.receive_into(memoryview(bytearray(1)), 20.0)
        assert "No module named 'absent'" in worker.stderr_tail()


def test_an_interpreter_that_cannot_run_is_ours_to_repair() -> None:
    with pytest.raises(SandboxUnavailable, match="cannot run the interpreter"):
        BubblewrapSandbox(python=Path("/nonexistent/python"))
