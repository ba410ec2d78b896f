"""Words for people: names instead of addresses, sentences instead of codes, and foreign text made harmless."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ralph.protocol.reasons import EXPLANATIONS, Reason
from ralph.protocol.record import State

STATES: Mapping[State, str] = {
    "rejected": "refused",
    "absent": "not delivered",
    "void": "void",
    "dropped": "dropped",
    "queued": "queued",
    "deferred": "set aside",
    "screened": "passed the screen",
    "filtering": "in the filter",
    "proving": "in the proof",
    "crowned": "crowned",
}
GENESIS, AUDITOR = "genesis", "auditor"
UNNAMED_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Who a hotkey is."""

    by_hotkey: Mapping[str, str]

    def of(self, hotkey: str) -> str:
        """Return the node's name, the beginning of an unknown address, or the genesis, which nobody made."""
        if not hotkey:
            return GENESIS
        return self.by_hotkey.get(hotkey) or safe(hotkey, UNNAMED_CHARACTERS)


def safe(text: str, limit: int = 200) -> str:
    """Return foreign text as one line of printable characters, cut to ``limit``.

    Whatever could steer a terminal, turn the direction of writing or hide something becomes a middle dot.
    """
    line = " ".join(text[: 4 * limit + 64].split())
    line = "".join(letter if letter.isprintable() else "·" for letter in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def sentence(reason: str) -> str:
    """Return what a reason code means, or the code itself when this release does not know it."""
    return EXPLANATIONS[Reason(reason)].sentence if reason in set(Reason) else safe(reason, 20)


def gain(value: float | None, error: float | None = None) -> str:
    """Return a gain in bits per byte; empty when it was not measured."""
    if value is None:
        return ""
    return f"{value:+.4f}" if error is None else f"{value:+.4f} ± {error:.4f}"


def level(mean: float | None, sd: float | None = None) -> str:
    """Return a val_bpb with its scatter; empty when it was not measured."""
    if mean is None:
        return ""
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def audit_command(home: Path) -> str:
    """Return the command with which anybody audits what a demo left behind."""
    return f"ralph audit run --config {home / AUDITOR / 'config.toml'}"


def duration(seconds: float) -> str:
    """Return a duration as minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
