"""Ways to start bubblewrap that each defeat it. Each test shows the mistake with bubblewrap alone, and then our launcher.

The first of the five, being root, is in test_as_root.py.
"""

import os
from collections.abc import Callable

import pytest

from tests.sandbox.bare import bare

Say = Callable[[str], str]


def test_clearenv_does_not_hide_the_launchers_environment(say: Say) -> None:
    secret = {"RALPH_TEST_SECRET": "abandon ability able", "PATH": "/usr/bin:/bin"}
    mistaken = bare("/bin/cat", "/proc/1/environ", options=("--clearenv",), env=secret)
    assert "abandon ability able" in mistaken.stdout

    assert say("open('/proc/1/environ').read()") == ""
    assert "SECRET" not in say("sorted(os.environ)")


def test_descriptors_of_the_launcher_pass_through(say: Say) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    try:
        mistaken = bare("/bin/ls", "/proc/self/fd", close_fds=False)
        assert str(writer) in mistaken.stdout.split()

        opened = say("[name for name in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + name)]")
        assert opened == "['0', '1', '2', '3']"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("folder", ["/", "/dev", "/dev/shm"])
def test_the_root_and_dev_are_unlimited_memory_until_they_are_remounted(say: Say, folder: str) -> None:
    writes = f"import os; print(open(os.path.join({folder!r}, 'fill'), 'wb').write(bytes(100 << 20)))"
    empty_root = ["--tmpfs", "/", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]
    mistaken = bare("/usr/bin/python3", "-c", writes, options=(*empty_root, "--dev", "/dev"))
    assert mistaken.stdout == f"{100 << 20}\n"

    assert say(f"os.access({folder!r}, os.W_OK), os.statvfs({folder!r}).f_flag & os.ST_RDONLY") == "(False, 1)"


def test_the_command_line_can_be_read_inside(say: Say) -> None:
    mistaken = bare("/bin/cat", "/proc/1/cmdline", options=("--setenv", "WHERE", "/var/lib/secret-place"))
    assert "/var/lib/secret-place" in mistaken.stdout

    words = say("open('/proc/1/cmdline').read().split(chr(0))")
    assert "--args" in words
    assert "bind" not in words
    assert "pytest" not in words
