"""The command itself: help without weight, errors in one line, extensions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ralph import __version__
from ralph.cli.errors import Exit, problem_of
from ralph.cli.main import COMMANDS, app
from ralph.cli.output import printable
from ralph.errors import (
    ChainRejected,
    ChainUnavailable,
    ConfigurationError,
    CorruptStateError,
    InfrastructureError,
    RalphError,
    SandboxUnavailable,
    StoreUnavailable,
    UntrustedInputError,
)
from tests.cli.network import ralph


def invoke(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys\nfrom ralph.cli.main import app\ntry:\n    app(['--help'])\nfinally:\n    print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    loaded = set(ast.literal_eval(done.stderr.strip().splitlines()[-1]))
    assert loaded.isdisjoint({"torch", "numpy", "scipy", "bittensor_core", "git", "tokenizers", "optuna"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, _ = invoke(capsys, name, "--help")
    assert status == 0
    assert out.startswith(f"Usage: ralph {name}")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(capsys, "--version") == (0, f"ralph {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chian"], "No such command 'chian'. Did you mean 'chain'?"),
        (["chain", "rum"], "No such command 'rum'"),
        (["chain", "run"], "Missing option '--path'"),
        (["chain", "run", "--path", "x", "--interval", "soon"], "Invalid value for '--interval'"),
        (["chain", "run", "--path", "x", "--interval", "0"], "Invalid value for '--interval'"),
        (["status", "--conifg", "x"], "--conifg"),
        (["explain"], "Missing argument"),
        (["train", "--seed", "-1"], "Invalid value for '--seed'"),
    ],
)
def test_a_usage_error_is_one_line_with_a_next_step_and_status_3(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    status, out, err = invoke(capsys, *words)
    assert (status, out) == (3, "")
    first, second = err.splitlines()
    assert first.startswith("OPS-CONFIG: ")
    assert said in first
    assert second.endswith("--help` shows what can be given.")


def test_an_error_is_an_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = invoke(capsys, "status", "--config", "/nonexistent.toml", "--json")
    assert status == 3
    assert '"code": "OPS-CONFIG"' in out
    assert '"status": 3' in out


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConfigurationError("x"), Exit.CONFIGURATION, "OPS-CONFIG"),
        (ConfigurationError("x", code="OPS-DATA"), Exit.CONFIGURATION, "OPS-DATA"),
        (CorruptStateError("x", code="OPS-DATA"), Exit.CONFIGURATION, "OPS-DATA"),
        (SandboxUnavailable("x", code="OPS-SANDBOX"), Exit.CONFIGURATION, "OPS-SANDBOX"),
        (CorruptStateError("x"), Exit.NEGATIVE, "OPS-CORRUPT"),
        (UntrustedInputError("INT-SCOPE", "x"), Exit.NEGATIVE, "INT-SCOPE"),
        (UntrustedInputError("RUN-BUDGET", "x"), Exit.BUDGET, "RUN-BUDGET"),
        (InfrastructureError("x", code="OPS-DISK"), Exit.INCOMPLETE, "OPS-DISK"),
        (InfrastructureError("x"), Exit.INCOMPLETE, "OPS-INFRA"),
        (ChainUnavailable("x"), Exit.NETWORK, "OPS-INFRA"),
        (StoreUnavailable("x"), Exit.NETWORK, "OPS-INFRA"),
        (ChainRejected("SettingWeightsTooFast", "x"), Exit.NETWORK, "SettingWeightsTooFast"),
        (OSError(28, "No space left on device", "/x"), Exit.INCOMPLETE, "OPS-DISK"),
        (PermissionError(13, "Permission denied", "/x"), Exit.CONFIGURATION, "OPS-CONFIG"),
    ],
)
def test_every_kind_of_error_has_its_exit_status(error: RalphError | OSError, status: Exit, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)


def test_a_full_disk_is_named_whatever_stumbled_over_it() -> None:
    error = ConfigurationError("the key file cannot be written")
    error.__cause__ = OSError(28, "No space left on device")
    assert (problem_of(error).code, problem_of(error).status) == ("OPS-DISK", Exit.INCOMPLETE)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x07", "\u202e", "\x9b31m", "\r"])
def test_foreign_text_is_one_harmless_line(text: str) -> None:
    assert printable(text).isprintable()


def test_harmless_text_is_left_alone() -> None:
    assert printable("z = 2.10, Größe ± 0,3 µs — 模型") == "z = 2.10, Größe ± 0,3 µs — 模型"


@pytest.fixture
def extension(tmp_path: Path) -> dict[str, str]:
    """Another installed distribution with commands of its own."""
    (tmp_path / "others.py").write_text(
        '"""A module."""\n\nimport typer\n\n\ndef hello(name: str, loud: bool = False) -> None:\n'
        '    """Greet somebody.\n\n    At length.\n    """\n    typer.echo(f"hello {name}" + "!" * loud)\n'
        '\n\ndef status() -> None:\n    """Nothing."""\n'
    )
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ralph.commands]\nhello = others:hello\nstatus = others:status\ngone = nowhere:gone\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_an_extension_is_a_command_of_its_name(extension: dict[str, str]) -> None:
    assert "hello      Greet somebody." in ralph("--help", environment=extension).out
    assert ralph("hello", "world", "--loud", environment=extension).out == "hello world!\n"
    assert ralph("hello", environment=extension).status == 3


def test_an_extension_cannot_replace_a_command_of_ours(extension: dict[str, str]) -> None:
    assert "--config" in ralph("status", "--help", environment=extension).out


def test_a_broken_extension_is_an_error_of_its_own(extension: dict[str, str]) -> None:
    done = ralph("gone", environment=extension)
    assert done.status == 3
    assert "nowhere" in done.err
    assert "Traceback" not in done.err
    assert "Cannot be loaded" in ralph("--help", environment=extension).out


def test_a_command_that_needs_an_extra_says_which(extension: dict[str, str]) -> None:
    """The built-in commands import extras where they use them; this is about what is missing as soon as a module is imported."""
    done = ralph("gone", environment=extension)
    assert done.err.startswith("OPS-CONFIG: `ralph gone` needs the package nowhere; the extra [demo] has everything: pip install")
