"""What a release says of itself: its facts, its commit, its release notes. A release is a crown, or the tree of an earlier king restored.

A commit is a pure function of the facts, the judged tree and the commit before it: names and dates are given,
never taken from the machine, so every validator that decides the same makes the same commit and the same tag.
It is written and read in one strict form; whatever does not read back to the same bytes is not ours.

The sentence that describes the change was written by a miner. It is cut to one line of printable ASCII (what
counts as printable beyond that depends on the Python version) before it enters a message, and escaped before it
enters the notes.
"""

import re
from dataclasses import dataclass

from ralph.errors import CorruptStateError
from ralph.protocol.canonical import real_text

FIRST_TAG = "recipe-v1.0.0"
MAX_CHANGE_LENGTH = 120
_TAG = re.compile(r"recipe-v([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})", re.ASCII)
_HOTKEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,64}", re.ASCII)
_DIGEST = r"([0-9a-f]{64})"
_GENESIS = re.compile(rf"(?P<tag>{_TAG.pattern}): genesis\n\nTree: (?P<tree>{_DIGEST})\n", re.ASCII)
_HEADER = re.compile(
    r"tree (?P<tree>[0-9a-f]{40})\n(?:parent (?P<parent>[0-9a-f]{40})\n)?"
    r"author (?P<author>[0-9A-Za-z ._-]{1,64}) <> (?P<when>[0-9]{1,13}) \+0000\ncommitter (?P=author) <> (?P=when) \+0000\n\n",
    re.ASCII,
)
_CROWN = re.compile(
    rf"(?P<tag>{_TAG.pattern}): (?P<change>[^\n]*)\n\n"
    rf"Round: (?P<round>[0-9]{{1,19}})\nAnnouncement: (?P<announcement>{_DIGEST})\nHotkey: (?P<hotkey>{_HOTKEY.pattern})\n"
    rf"Gain: (?P<gain>[-+.0-9e]{{1,32}}) val_bpb\n"
    rf"Parent: (?P<parent>{_DIGEST})\nRecord: (?P<record>{_DIGEST})\nTree: (?P<tree>{_DIGEST})\n",
    re.ASCII,
)
_RESTORATION = re.compile(
    rf"(?P<tag>{_TAG.pattern}): restores an earlier king\n\n"
    rf"Round: (?P<round>[0-9]{{1,19}})\nDemoted: (?P<demoted>{_DIGEST})\nReason: (?P<reason>[A-Z]{{3}}-[A-Z]{{2,16}})\n"
    rf"Record: (?P<record>{_DIGEST})\nTree: (?P<tree>{_DIGEST})\n",
    re.ASCII,
)
VALIDATOR = "validator"
"""Author of a restoration: no miner made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrownFacts:
    """Why a tree was crowned, from the published Record.

    Args:
        round: The round that decided.
        announcement: Digest of the miner's announcement; a lineage holds each at most once.
        hotkey: The miner, SS58. Author of the commit.
        gain_bpb: How much lower val_bpb is than the parent's; positive is better.
        parent: Tree digest of the king that was dethroned.
        record: Digest of the Record.
        change: One sentence of the miner's hypothesis. Foreign text.
        when: Unix seconds of the deciding block, the date of commit and tag.
    """

    round: int
    announcement: bytes
    hotkey: str
    gain_bpb: float
    parent: bytes
    record: bytes
    change: str
    when: int

    def __post_init__(self) -> None:
        if not all(len(value) == 32 for value in (self.announcement, self.parent, self.record)):
            raise ValueError("a digest has 32 bytes")
        if not _HOTKEY.fullmatch(self.hotkey) or not 0 <= self.when < 2**40 or self.round < 0:
            raise ValueError(f"not a hotkey, a date and a round: {self.hotkey[:80]!a}, {self.when}, {self.round}")
        real_text(self.gain_bpb)
        object.__setattr__(self, "change", one_line(self.change))


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorationFacts:
    """Why an earlier tree is the king's again, from the published Record.

    Args:
        round: The round that decided.
        demoted: Tree digest of the king that was demoted.
        restored: Tree digest of the king before.
        reason: Reason code of the demotion.
        record: Digest of the Record; a lineage holds each at most once.
        when: Unix seconds of the deciding block.
    """

    round: int
    demoted: bytes
    restored: bytes
    reason: str
    record: bytes
    when: int

    def __post_init__(self) -> None:
        if not all(len(value) == 32 for value in (self.demoted, self.restored, self.record)):
            raise ValueError("a digest has 32 bytes")
        if not re.fullmatch(r"[A-Z]{3}-[A-Z]{2,16}", self.reason) or not 0 <= self.when < 2**40 or self.round < 0:
            raise ValueError(f"not a reason, a date and a round: {self.reason[:80]!a}, {self.when}, {self.round}")


Facts = CrownFacts | RestorationFacts | None
"""Why there is a commit; None for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crown:
    """One commit of the lineage: a crown, or the tree of an earlier king restored.

    Args:
        tag: The release, ``recipe-vX.Y.Z``.
        commit: Its git id.
        tree: Digest of its RecipeTree.
        author: Whose name it bears: the miner's hotkey, "validator" on a restoration, or whoever made the first one.
        when: Unix seconds.
        parent_commit: Git id of the commit before it; None for the first.
        facts: Why it is there.
    """

    tag: str
    commit: str
    tree: bytes
    author: str
    when: int
    parent_commit: str | None
    facts: Facts


def next_tag(tag: str) -> str:
    """Return the tag of the next crown: the minor version grows by one."""
    major, minor, _ = version(tag)
    return f"recipe-v{major}.{minor + 1}.0"


def restored_tag(tag: str) -> str:
    """Return the tag of a restoration after ``tag``: the third number grows by one."""
    major, minor, patch = version(tag)
    return f"recipe-v{major}.{minor}.{patch + 1}"


def version(tag: str) -> tuple[int, int, int]:
    """Return the three numbers of a release tag. Raises CorruptStateError for anything else."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise CorruptStateError(f"not a release tag: {tag[:80]!a}")
    return int(match[1]), int(match[2]), int(match[3])


def one_line(text: str) -> str:
    """Return foreign text as one line of printable ASCII, at most 120 characters."""
    printable = "".join(letter if " " <= letter <= "~" else " " if letter.isspace() else "?" for letter in text[: 10 * MAX_CHANGE_LENGTH])
    return " ".join(printable.split())[:MAX_CHANGE_LENGTH].strip() or "no description"


def message_of(tag: str, tree: bytes, facts: Facts) -> str:
    """Return the commit message: what changed in one line, then the trailers."""
    if facts is None:
        return f"{tag}: genesis\n\nTree: {tree.hex()}\n"
    if isinstance(facts, RestorationFacts):
        return f"{tag}: restores an earlier king\n\n" + _trailers(
            ("Round", str(facts.round)),
            ("Demoted", facts.demoted.hex()),
            ("Reason", facts.reason),
            ("Record", facts.record.hex()),
            ("Tree", tree.hex()),
        )
    return f"{tag}: {facts.change}\n\n" + _trailers(
        ("Round", str(facts.round)),
        ("Announcement", facts.announcement.hex()),
        ("Hotkey", facts.hotkey),
        ("Gain", f"{real_text(facts.gain_bpb)} val_bpb"),
        ("Parent", facts.parent.hex()),
        ("Record", facts.record.hex()),
        ("Tree", tree.hex()),
    )


def _trailers(*trailers: tuple[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in trailers)


def commit_of(git_tree: str, parent: str | None, message: str, *, author: str, when: int) -> str:
    """Return the content of a commit object."""
    headers = [
        f"tree {git_tree}",
        *([f"parent {parent}"] if parent else []),
        *(f"{role} {author} <> {when} +0000" for role in ("author", "committer")),
    ]
    return "\n".join(headers) + f"\n\n{message}"


def tag_of(crown: Crown, previous: str | None) -> str:
    """Return the content of the annotated tag of a crown; its message is the release notes."""
    headers = (f"object {crown.commit}", "type commit", f"tag {crown.tag}", f"tagger {crown.author} <> {crown.when} +0000")
    return "\n".join(headers) + f"\n\n{release_notes(crown, previous)}"


def parse(commit: str, content: bytes) -> Crown:
    """Read a commit object back. Raises CorruptStateError unless it is exactly what ``commit_of`` writes for a crown."""
    text = content.decode("ascii", "replace")
    header = _HEADER.match(text)
    if header is None:
        raise CorruptStateError(f"commit {commit} is not a crown: {text[:80]!a}")
    message, when, parent = text[header.end() :], int(header["when"]), header["parent"]
    tag, tree, facts = _parse_message(commit, message, when=when, first=parent is None)
    exact = commit_of(header["tree"], parent, message_of(tag, tree, facts), author=header["author"], when=when)
    author = header["author"] if facts is None else VALIDATOR if isinstance(facts, RestorationFacts) else facts.hotkey
    if exact.encode() != content or author != header["author"]:
        raise CorruptStateError(f"commit {commit} is not in its canonical form")
    return Crown(tag=tag, commit=commit, tree=tree, author=header["author"], when=when, parent_commit=parent, facts=facts)


def _parse_message(commit: str, message: str, *, when: int, first: bool) -> tuple[str, bytes, Facts]:
    match = _GENESIS.fullmatch(message) if first else _CROWN.fullmatch(message) or _RESTORATION.fullmatch(message)
    if match is None:
        raise CorruptStateError(f"the message of commit {commit} is not that of a crown: {message[:80]!a}")
    try:
        facts = None if first else _facts(match, when)
    except ValueError as error:
        raise CorruptStateError(f"the message of commit {commit} holds an impossible value: {error}") from error
    return match["tag"], bytes.fromhex(match["tree"]), facts


def _facts(match: re.Match[str], when: int) -> Facts:
    if match.re is _RESTORATION:
        return RestorationFacts(
            round=int(match["round"]),
            demoted=bytes.fromhex(match["demoted"]),
            restored=bytes.fromhex(match["tree"]),
            reason=match["reason"],
            record=bytes.fromhex(match["record"]),
            when=when,
        )
    return CrownFacts(
        round=int(match["round"]),
        announcement=bytes.fromhex(match["announcement"]),
        hotkey=match["hotkey"],
        gain_bpb=float(match["gain"]),
        parent=bytes.fromhex(match["parent"]),
        record=bytes.fromhex(match["record"]),
        change=match["change"],
        when=when,
    )


def release_notes(crown: Crown, previous: str | None) -> str:
    """Return the release notes in Markdown, the message of the annotated tag.

    Args:
        crown: The release.
        previous: The tag before it; None for the first.
    """
    lines = [f"# {crown.tag}", ""]
    if crown.facts is None:
        lines += ["The recipe that the lineage begins with.", "", f"- Tree: `{crown.tree.hex()}`"]
        return "\n".join(lines) + "\n"
    if isinstance(crown.facts, RestorationFacts):
        return "\n".join([*lines, *_restoration_notes(crown, crown.facts, previous)]) + "\n"
    facts = crown.facts
    lines += [
        f"> {_escape(facts.change)}",
        "",
        "| | |",
        "|---|---|",
        f"| Gain over {previous} | {facts.gain_bpb:.4f} val_bpb |",
        f"| Round | {facts.round} |",
        f"| Hotkey | `{facts.hotkey}` |",
        f"| Announcement | `{facts.announcement.hex()}` |",
        f"| Record | `{facts.record.hex()}` |",
        f"| Tree | `{crown.tree.hex()}` |",
        "",
        f"What changed: `git diff {previous} {crown.tag}`",
    ]
    return "\n".join(lines) + "\n"


def _restoration_notes(crown: Crown, facts: RestorationFacts, previous: str | None) -> list[str]:
    return [
        f"The recipe of an earlier king again: the king of {previous} is demoted.",
        "",
        "| | |",
        "|---|---|",
        f"| Reason | {facts.reason} |",
        f"| Round | {facts.round} |",
        f"| Demoted tree | `{facts.demoted.hex()}` |",
        f"| Record | `{facts.record.hex()}` |",
        f"| Tree | `{crown.tree.hex()}` |",
        "",
        f"What changed: `git diff {previous} {crown.tag}`",
    ]


def _escape(text: str) -> str:
    """Return ``text`` so that Markdown and HTML show it and do nothing else."""
    html = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;").replace("://", "&#58;//")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.replace("&#", "\0")).replace("\0", "&#")
