"""Private items: questions in the same three schemas that were never published, sealed and committed to like the hidden pool.

An item with its licence is one document of a ``PoolCommitment``: its canonical JSON, one token for each byte, its schema for a source.
So salts, leaves, sealed shards, the public draw of the active part, openings and refreshes are those of the hidden pool, and so are
their checks: ``ralph.evaluate.active.verify_opened``, then ``verify_items`` here.

What this does **not** promise: that an item is good, or that nobody knows it. It is as private as the files it was sealed from.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ralph.data.corpora import Document
from ralph.data.pool import HiddenPool, open_pool
from ralph.data.tokenizer import Tokenizer
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.evaluate.active import active_subset
from ralph.evaluate.core22.examining import Examination
from ralph.evaluate.core22.guarded import Setting, audited_examination
from ralph.evaluate.core22.items import CODE, MAX_LINE_BYTES, Item, LanguageModeling, MultipleChoice, Schema, item_digest, parse_item
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.tasks import Chance, Task, TaskType
from ralph.protocol.pool import OpenedSubset, PoolCommitment, ShardName, Subset
from ralph.protocol.scoring_rules import PRIVATE_ITEMS, ExamRules, PrivateGuard

SCHEMAS = tuple(sorted(kind.value for kind in TaskType))
MAX_LICENCE = 500
ASKED_SHARD: ShardName = "confirm"
VOCABULARY = 257
MAX_FILE_BYTES = 64 << 20


class Bytes:
    """Implements ``Tokenizer``: BOS, and one token for each byte of UTF-8."""

    vocabulary = VOCABULARY
    token_bytes: npt.NDArray[np.uint8] = np.array([0] + [1] * 256, np.uint8)

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.uint16) + np.uint16(1)

    def decode(self, tokens: Iterable[int]) -> str:
        return bytes(token - 1 for token in tokens).decode("utf-8", "replace")

    def to_bytes(self) -> bytes:
        return b"recipe-net utf-8 bytes v1"


BYTES: Tokenizer = Bytes()


def tokenizer_digest() -> bytes:
    """Return what a commitment to private items names as its tokenizer."""
    return hashlib.sha256(BYTES.to_bytes()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateItem:
    """An item and by what licence it may be asked, and published once it is opened."""

    item: Item
    licence: str

    @property
    def kind(self) -> TaskType:
        """Return its schema."""
        match self.item:
            case MultipleChoice():
                return TaskType.MULTIPLE_CHOICE
            case Schema():
                return TaskType.SCHEMA
            case LanguageModeling():
                return TaskType.LANGUAGE_MODELING

    def text(self) -> str:
        """Return the canonical JSON that is sealed."""
        match self.item:
            case MultipleChoice():
                fields = {"query": self.item.query, "choices": list(self.item.choices), "gold": self.item.gold}
            case Schema():
                fields = {"context_options": list(self.item.contexts), "continuation": self.item.continuation, "gold": self.item.gold}
            case LanguageModeling():
                fields = {"context": self.item.context, "continuation": self.item.continuation}
        value = {**fields, "type": self.kind.value, "licence": self.licence}
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def document(self) -> Document:
        """Return it as a document of a pool."""
        return Document(source=self.kind.value, text=self.text())


def parse_private(line: bytes) -> PrivateItem:
    """Parse one line: the fields of its schema, ``type`` and ``licence``; others are dropped.

    Raises:
        ValueError: what is missing or wrong; a licence is required.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"{len(line)} bytes, limit {MAX_LINE_BYTES}")
    try:
        fields = json.loads(line.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error
    kind = fields.get("type") if isinstance(fields, dict) else None
    if kind not in SCHEMAS:
        raise ValueError(f"'type' is none of {', '.join(SCHEMAS)}")
    licence = fields.get("licence")
    if not isinstance(licence, str) or not licence.strip() or len(licence) > MAX_LICENCE:
        raise ValueError(
            f"'licence' is missing, blank or longer than {MAX_LICENCE}: say by what licence the item may be asked and published"
        )
    return PrivateItem(item=parse_item(line, TaskType(kind)), licence=licence)


def read_items(paths: Sequence[Path]) -> tuple[PrivateItem, ...]:
    """Read files of one item a line, each item once.

    Raises:
        ConfigurationError: ``OPS-DATA`` with the file, the line and what is wrong with it; nothing of the item itself.
    """
    found: dict[bytes, PrivateItem] = {}
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code=CODE) from error
        if len(data) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} has more than {MAX_FILE_BYTES} bytes", code=CODE)
        for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else (), 1):
            try:
                item = parse_private(line)
            except ValueError as error:
                raise ConfigurationError(f"{path}, line {number}: {error}", code=CODE) from error
            if item_digest(item.item) in found:
                raise ConfigurationError(f"{path}, line {number}: an item that is there already", code=CODE)
            found[item_digest(item.item)] = item
    return tuple(found.values())


def open_items(directory: Path, *, key: Path, expect: bytes | None) -> HiddenPool:
    """Open the commitment to private items; the arguments and errors are those of ``open_pool``.

    Raises:
        ConfigurationError: ``OPS-DATA``, also for a pool of something else.
    """
    pool = open_pool(directory, key=key, expect=expect)
    check_kind(pool.commitment)
    return pool


def check_kind(commitment: PoolCommitment) -> None:
    """Refuse a commitment to something else than private items. Raises ConfigurationError ``OPS-DATA``."""
    found = (commitment.tokenizer, commitment.vocabulary, commitment.source_names)
    if found != (tokenizer_digest(), VOCABULARY, SCHEMAS):
        raise ConfigurationError(f"commitment {commitment.digest().hex()[:16]} is to no private items", code=CODE)


def items_of(pool: HiddenPool, shard: ShardName) -> tuple[PrivateItem, ...]:
    """Open a shard and return its items in their places. Raises CorruptStateError ``OPS-DATA``, also where one is no item."""
    contents = pool.contents(shard)
    found = []
    for place, row in enumerate(contents.index):
        start = int(row["offset"])
        text = BYTES.decode(contents.tokens[start : start + int(row["tokens"])].tolist())
        try:
            found.append(parse_private(text.encode("utf-8")))
        except ValueError as error:
            raise CorruptStateError(f"{pool.directory}: item {place} of {shard}: {error}", code=CODE) from error
    return tuple(found)


def verify_items(opened: OpenedSubset) -> tuple[PrivateItem, ...]:
    """Return opened items. Call ``verify_opened`` first: it shows that these are the committed and drawn ones.

    Raises:
        UntrustedInputError: INT-SCHEMA, one of them is no item in its canonical form, or of another schema than its source.
    """
    found = []
    for opening in opened.openings:
        tokens = np.frombuffer(opening.tokens, "<u2")
        where = f"item {opening.index} of {opened.subset.shard}"
        if not tokens.all():
            raise UntrustedInputError("INT-SCHEMA", f"{where} holds what is no byte")
        try:
            item = parse_private(bytes(int(token) - 1 for token in tokens))
        except ValueError as error:
            raise UntrustedInputError("INT-SCHEMA", f"{where}: {error}") from error
        if item.kind.value != opening.source or not np.array_equal(BYTES.encode(item.text()), tokens):
            raise UntrustedInputError("INT-SCHEMA", f"{where} is not in its canonical form, or of another schema")
        found.append(item)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveItems:
    """Implements ``ItemSource``: the items of one rotation as tasks, one for each schema, without examples."""

    by_kind: dict[TaskType, tuple[Item, ...]] = field(repr=False)
    absent: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[Task, ...]:
        """Return the tasks of which there are items."""
        return tuple(_task(kind) for kind in TaskType if kind in self.by_kind)

    def items(self, task: Task) -> tuple[Item, ...]:
        """Return the items of a task."""
        return self.by_kind[task.type]


def private_examination(
    pool: HiddenPool,
    guard: PrivateGuard,
    rules: ExamRules,
    *,
    setting: Setting,
    beacon: bytes,
    hotkey: str,
) -> Examination:
    """Open the items that are active in the first rotation and return the examination over them.

    Args:
        pool: The private items.
        guard: How many are active.
        rules: How they are audited.
        setting: How rows are made.
        beacon: Of the rotation, public.
        hotkey: Of the validator.

    Raises:
        ConfigurationError: OPS-DATA, fewer items than are to be active.
    """
    held = items_of(pool, ASKED_SHARD)
    subset = Subset(shard=ASKED_SHARD, rotation=0)
    if guard.items > len(held):
        detail = f"{guard.items} private items are to be asked, shard {ASKED_SHARD} holds {len(held)}; add items and commit again"
        raise ConfigurationError(detail, code=CODE)
    places = active_subset(beacon=beacon, hotkey=hotkey, subset=subset, places=range(len(held)), count=guard.items)
    by_kind = {kind: tuple(held[place].item for place in places if held[place].kind is kind) for kind in TaskType}
    source = ActiveItems(by_kind={kind: items for kind, items in by_kind.items() if items})
    manifest = replace(build(source), absent=())
    return audited_examination(PRIVATE_ITEMS, source, manifest, setting, rules, together=PRIVATE_ITEMS)


def licences(items: Iterable[PrivateItem]) -> Iterator[str]:
    """Return every licence once, sorted."""
    yield from sorted({item.licence for item in items})


def _task(kind: TaskType) -> Task:
    no_chance = Chance(core_v1=0.0, core_v2=0.0)  # of items together no guess has one value
    return Task(label=f"{PRIVATE_ITEMS}/{kind.value}", file="", type=kind, shots=0, delimiter=" ", chance=no_chance)
