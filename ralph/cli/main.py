"""The command `ralph`. What a command needs is imported when it is called, so that help is quick and extras stay optional.

Third-party commands come from the entry point group ``ralph.commands``: each entry point is a function
that becomes the command of its name. A command of ours is never replaced by one.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import TyperException
from typer.core import TyperCommand, TyperGroup

from ralph import __version__
from ralph.cli.errors import Exit, problem_of, show
from ralph.cli.output import line
from ralph.errors import ConfigurationError, RalphError

EXTENSIONS = "ralph.commands"
Command = TyperCommand | TyperGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init:init", "Set up a development network on this machine."),
    "doctor": ("doctor:doctor", "Check this machine and say how to fix what is wrong."),
    "data": ("data:app", "Prepare and verify the data that recipes train on."),
    "train": ("train:train", "Train a recipe once, as a validator would."),
    "calibrate": ("calibrate:calibrate_command", "Measure how far claims and probes of an honest model are apart here."),
    "rescore": ("rescore:rescore_command", "Score weights from prefixes alone, as an appeal does."),
    "core": ("core:app", "Fetch, show and score downstream tasks."),
    "chain": ("chain:app", "Make the blocks of a development chain."),
    "miner": ("miner:app", "Research, announce, prove and submit."),
    "validator": ("validator:app", "Judge submissions, publish records, set weights."),
    "audit": ("audit:app", "Recompute every decision from what was published."),
    "explain": ("explain:explain", "Say what became of a submission, and what would help."),
    "history": ("throne:history", "Show every change on the throne: crowns, ends of probation, demotions."),
    "status": ("status:status", "Show the king, the contests and how fresh the records are."),
    "keys": ("keys:app", "Make and show keys."),
    "config": ("config:app", "Show and check configuration files."),
}
"""Command -> (module of ``ralph.cli`` and what it holds: a function, or a Typer; help)."""


class Commands(MutableMapping[str, Any]):
    """Our commands and the installed extensions by name, imported on first use."""

    def __init__(self) -> None:
        self._extensions = {found.name: found for found in entry_points(group=EXTENSIONS) if found.name not in COMMANDS}
        self._loaded: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._loaded:
            if name not in COMMANDS and name not in self._extensions:
                raise KeyError(name)
            self._loaded[name] = _named(name, self._target(name))
        return self._loaded[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*COMMANDS, *self._extensions, *self._loaded])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def summary(self, name: str) -> TyperCommand:
        """Return a stand-in with the command's name and help, without importing the command."""
        text = COMMANDS[name][1] if name in COMMANDS else _first_sentence(self._extensions[name])
        return TyperCommand(name=name, help=text, rich_markup_mode=None)

    def _target(self, name: str) -> Callable[..., Any] | typer.Typer:
        try:
            if name in self._extensions:
                target: Callable[..., Any] = self._extensions[name].load()
                return target
            module, _, attribute = COMMANDS[name][0].partition(":")
            return getattr(importlib.import_module(f"ralph.cli.{module}"), attribute)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in ("ralph", "ralph_devnet"):
                raise
            detail = f"`ralph {name}` needs the package {error.name}; the extra [demo] has everything: pip install 'ralph-subnet[demo]'"
            raise ConfigurationError(detail) from error


class RalphGroup(TyperGroup):
    """The top of the command tree: loads commands on demand and turns every error into a line and an exit status."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Commands()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print help with summaries in place of the commands."""
        found = self.commands
        self.commands = {name: found.summary(name) for name in found} if isinstance(found, Commands) else found
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = found

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line. Never shows a stack trace for a mistake of the user or the machine."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            status = super().main(words, prog_name or "ralph", complete_var, False, windows_expand_args, **extra)
        except (TyperException, RalphError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                status = Exit.OK
            else:
                problem = problem_of(error)
                show(problem, as_json="--json" in words)
                status = problem.status
        except typer.Abort:
            status = 130
        if not standalone_mode:
            return status
        sys.exit(int(status) if isinstance(status, int) else 0)


app = typer.Typer(
    cls=RalphGroup,
    name="ralph",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Open research on how to pretrain small language models, run as a protocol.",
)


def _version(wanted: bool) -> None:
    if wanted:
        line(f"ralph {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Open research on how to pretrain small language models, run as a protocol."""


def _named(name: str, target: Callable[..., Any] | typer.Typer) -> Command:
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(name)(target)
        target = single
    command = typer.main.get_command(target)
    if not isinstance(command, (TyperCommand, TyperGroup)):
        raise TypeError(f"command {name} is a {type(command).__name__}")
    command.name = name
    return command


def _first_sentence(entry: EntryPoint) -> str:
    """Return the first line of the docstring of an extension's function, read without running its module."""
    try:
        found = importlib.util.find_spec(entry.module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        return f"Cannot be loaded: there is no module {entry.module}."
    tree = ast.parse(Path(found.origin).read_bytes())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry.attr)
    text = next((ast.get_docstring(node) for node in functions), None) or ast.get_docstring(tree) or f"From {entry.module}."
    return text.splitlines()[0]
