"""From an error to what the person at the terminal reads: one line with a reason code, a next step, an exit status.

    0  done, or the answer is yes        3  configuration or usage
    1  the answer is no                  4  chain or store did not answer
    2  incomplete: run it again          5  over a budget

A mistake of a user or of the machine never shows a stack trace. A bug does: it is for us.
"""

import errno
import sqlite3
from dataclasses import dataclass
from enum import IntEnum

from typer import TyperException

from ralph.cli.output import emit_json, line
from ralph.errors import (
    ChainRejected,
    ChainUnavailable,
    ConfigurationError,
    RalphError,
    SandboxUnavailable,
    StoreUnavailable,
)
from ralph.protocol.reasons import EXPLANATIONS, Reason

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
OPERATORS = frozenset({"OPS-CONFIG", "OPS-DATA", "OPS-SANDBOX"})
"""Reason codes that the operator's set-up explains, whatever type carries them."""


class Exit(IntEnum):
    """Exit statuses."""

    OK = 0
    NEGATIVE = 1
    INCOMPLETE = 2
    CONFIGURATION = 3
    NETWORK = 4
    BUDGET = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as a person sees it."""

    code: str
    detail: str
    next_step: str
    status: Exit


def problem_of(error: RalphError | TyperException | OSError) -> Problem:
    """Return what to say about an error. A full disk is a full disk, whatever stumbled over it."""
    if isinstance(error, RalphError):
        if _disk_is_full(error.__cause__):
            return Problem(code=Reason.OPS_DISK, detail=error.detail, next_step=next_step(Reason.OPS_DISK), status=Exit.INCOMPLETE)
        return Problem(code=error.code, detail=error.detail, next_step=next_step(error.code), status=_status(error))
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "ralph"
        return Problem(
            code=Reason.OPS_CONFIG.value,
            detail=error.format_message(),
            next_step=f"`{command} --help` shows what can be given.",
            status=Exit.CONFIGURATION,
        )
    if _disk_is_full(error):
        code, status = Reason.OPS_DISK, Exit.INCOMPLETE
    else:
        code, status = Reason.OPS_CONFIG, Exit.CONFIGURATION
    where = f"{error.filename}: " if error.filename else ""
    return Problem(code=code.value, detail=f"{where}{error.strerror or error}", next_step=next_step(code.value), status=status)


def next_step(code: str) -> str:
    """Return what to do about a reason code; empty for one that we do not know."""
    known = {str(reason) for reason in Reason}
    return EXPLANATIONS[Reason(code)].next_step if code in known else ""


def show(problem: Problem, *, as_json: bool) -> None:
    """Print a problem: text to standard error, and an object to standard output for programs."""
    line(f"{problem.code}: {problem.detail}", err=True)
    if problem.next_step:
        line(f"  {problem.next_step}", err=True)
    if as_json:
        emit_json(
            {"error": {"code": problem.code, "detail": problem.detail, "next_step": problem.next_step, "status": int(problem.status)}}
        )


def _disk_is_full(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _status(error: RalphError) -> Exit:
    if error.code == Reason.RUN_BUDGET:
        return Exit.BUDGET
    if error.code in OPERATORS or isinstance(error, (ConfigurationError, SandboxUnavailable)):
        return Exit.CONFIGURATION
    if isinstance(error, (ChainUnavailable, StoreUnavailable, ChainRejected)):
        return Exit.NETWORK
    return Exit.INCOMPLETE if error.code.startswith("OPS") and error.code != Reason.OPS_CORRUPT else Exit.NEGATIVE
