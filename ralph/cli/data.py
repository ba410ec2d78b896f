"""`ralph data`: prepare and verify the data that recipes train on."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.cli.errors import Exit
from ralph.cli.nodes import open_pools
from ralph.cli.output import JsonOption, emit, progress
from ralph.config import Config, default_home, load_config, load_profile
from ralph.data.corpora import Corpus, stdlib
from ralph.data.gpt2 import load_gpt2
from ralph.data.hub import FINEWEB_EDU, FINEWEB_SUBSET, hub_corpus
from ralph.data.partition import Fractions, Progress, SubPool
from ralph.data.pool import read_leaves
from ralph.data.poolkey import key_beside
from ralph.data.prepare import prepare
from ralph.data.refresh import refresh
from ralph.data.shards import open_data, pool_commitment
from ralph.data.textfiles import text_files
from ralph.data.tokenizer import open_tokenizer
from ralph.data.verify import Finding, verify
from ralph.errors import ConfigurationError
from ralph.protocol.data import HIDDEN_FRACTION, VALIDATION_FRACTION, DataManifest
from ralph.protocol.pool import MAX_OPENINGS_BYTES, MAX_POOLS, OpenedSubset, verify_refresh
from ralph.protocol.reasons import Reason
from ralph.protocol.record import MAX_RECORD_BYTES, SignedRecord
from ralph.records.events import EventTable
from ralph.store.directory import DirectoryStore

MAX_WORKERS = 8
"""Memory grows with them: each holds a bucket and its tokens."""


class Origin(StrEnum):
    """Where text comes from."""

    STDLIB = "stdlib"
    TEXT = "text"
    FINEWEB_EDU = "fineweb-edu"


class Kind(StrEnum):
    """Which tokenizer."""

    BPE = "bpe"
    GPT2 = "gpt2"


app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Prepare and verify the data.")


@app.callback()
def _group() -> None:
    """Prepare and verify the data that recipes train on."""


@app.command("prepare")
def prepare_command(
    paths: Annotated[list[str] | None, typer.Argument(help="Files or directories of --source text, each as PATH or SOURCE=PATH.")] = None,
    source: Annotated[Origin, typer.Option(help="The text: of this Python, of files, or streamed from the hub.")] = Origin.STDLIB,
    out: Annotated[Path | None, typer.Option(help="Directory of the public data; by default HOME/data/public.")] = None,
    hidden: Annotated[Path | None, typer.Option(help="Directory of the hidden pool; by default HOME/data/hidden.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the hidden pool, made when it is not there; by default beside the pool.")] = None,
    pool: Annotated[int, typer.Option(min=0, help="Which of the validators' hidden pools this is, from 0.")] = 0,
    pools: Annotated[int, typer.Option(min=1, max=MAX_POOLS, help="Validators over which the hidden documents are split.")] = 1,
    tokenizer: Annotated[Kind, typer.Option(help="Train a small BPE on the text, or use GPT-2's.")] = Kind.BPE,
    vocabulary: Annotated[int, typer.Option(min=257, help="Token ids of the BPE that is trained.")] = 512,
    merges: Annotated[Path | None, typer.Option(help="Directory with GPT-2's vocab.bpe and encoder.json; by default downloaded.")] = None,
    revision: Annotated[str, typer.Option(help="Commit, branch or tag of the data set on the hub; the commit is recorded.")] = "main",
    subset: Annotated[str, typer.Option(help="Configuration of the data set on the hub.")] = FINEWEB_SUBSET,
    documents: Annotated[int | None, typer.Option(min=1, help="Documents to take from the hub; by default all.")] = None,
    hidden_fraction: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the documents that is hidden.")] = HIDDEN_FRACTION,
    validation_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the documents that validates.")
    ] = VALIDATION_FRACTION,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that encode; by default one per processor, at most 8.")] = None,
    json: JsonOption = False,
) -> None:
    """Turn text into token shards and a sealed hidden pool.

    Killed, it goes on where it was when it is started again with the same options (text that can only be read once starts over).
    """
    public, private = out or default_home() / "data" / "public", hidden or default_home() / "data" / "hidden"
    corpus = _corpus(source, paths or [], subset, revision, documents)
    with progress("data", quiet=json) as meter:

        def report(step: Progress) -> None:
            meter.update(step.done, step.total, step.stage)

        manifest = prepare(
            public,
            hidden=private,
            vocabulary=vocabulary,
            tokenizer=load_gpt2(merges) if tokenizer is Kind.GPT2 else None,
            corpus=corpus,
            fractions=Fractions(hidden=hidden_fraction, validation=validation_fraction),
            key=key,
            sub_pool=SubPool(number=pool, count=pools),
            workers=workers or min(MAX_WORKERS, os.cpu_count() or 1),
            progress=report,
        )
    _show(manifest, public, private, key or key_beside(private), as_json=json)


def _show(manifest: DataManifest, public: Path, private: Path, key: Path, *, as_json: bool) -> None:
    digest, commitment = manifest.digest().hex(), pool_commitment(private).digest().hex()
    tokens = {one.name: sum(shard.token_count for shard in one.shards) for one in manifest.sources}
    emit(
        {
            "data": public,
            "hidden": private,
            "key": key,
            "manifest": digest,
            "commitment": commitment,
            "corpus": manifest.corpus,
            "tokens": tokens,
        },
        [
            f"public data: {public}",
            *(f"source {name}: {count:,} tokens" for name, count in tokens.items()),
            f"hidden pool: {private}",
            f"its key: {key} (keep it to the validator, and keep a copy: without it the pool is lost)",
            f"manifest: {digest}",
            f"commitment: {commitment}",
        ],
        as_json=as_json,
    )


def _corpus(source: Origin, paths: list[str], subset: str, revision: str, documents: int | None) -> Corpus:
    if paths and source is not Origin.TEXT:
        raise ConfigurationError(f"--source {source.value} takes no paths")
    if source is Origin.STDLIB:
        return stdlib()
    if source is Origin.FINEWEB_EDU:
        return hub_corpus(FINEWEB_EDU, subset=subset, revision=revision, limit=documents)
    if not paths:
        raise ConfigurationError("--source text needs files or directories")
    wanted: dict[str, list[Path]] = {}
    for word in paths:
        name, equals, place = word.partition("=")
        named = equals and not Path(word).exists()
        wanted.setdefault(name if named else "text", []).append(Path(place if named else word))
    return text_files(wanted)


@app.command("refresh")
def refresh_command(
    out: Annotated[Path, typer.Argument(help="Directory of the refreshed pool.")],
    config: Annotated[Path, typer.Option(help="The validator's TOML: its data, pool and key.")],
    paths: Annotated[list[str] | None, typer.Argument(help="Newer text: files or directories, each as PATH or SOURCE=PATH.")] = None,
    source: Annotated[Origin, typer.Option(help="The text: of this Python, of files, or streamed from the hub.")] = Origin.TEXT,
    revision: Annotated[str, typer.Option(help="Commit, branch or tag of the data set on the hub.")] = "main",
    subset: Annotated[str, typer.Option(help="Configuration of the data set on the hub.")] = FINEWEB_SUBSET,
    documents: Annotated[int | None, typer.Option(min=1, help="Documents to take from the hub; by default all.")] = None,
    hidden_fraction: Annotated[float, typer.Option(min=0.0, max=1.0, help="As the pool was prepared.")] = HIDDEN_FRACTION,
    validation_fraction: Annotated[float, typer.Option(min=0.0, max=1.0, help="As the pool was prepared.")] = VALIDATION_FRACTION,
    json: JsonOption = False,
) -> None:
    """Replace what was opened of the hidden pool, and up to a tenth of the rest, by newer text, in another directory.

    Name it in `hidden_refreshed` and start the validator again: its next Record commits to it, and the rotation after that draws from it.
    """
    node = load_config(config)
    if node.hidden is None or node.hidden_key is None:
        raise ConfigurationError(f"{config} names no `hidden` and `hidden_key`")
    rules = load_profile(node.profile).rules.data
    public = open_data(node.data, expect=rules.manifest)
    old = open_pools(node, load_profile(node.profile), public).newest
    opened = opened_leaves(node)
    new = refresh(
        out,
        old,
        tokenizer=open_tokenizer(public.tokenizer_bytes, vocabulary=public.vocabulary),
        documents=_corpus(source, paths or [], subset, revision, documents).documents(0),
        fractions=Fractions(hidden=hidden_fraction, validation=validation_fraction),
        opened=opened,
    )
    changes = verify_refresh(old.commitment, old.leaves, new, read_leaves(out, new), opened=opened)
    emit(
        {"hidden": out, "commitment": new.digest().hex(), "stayed": {one.shard: len(one.stayed) for one in changes}},
        [
            f"refreshed pool: {out}, refresh {new.refresh} of commitment {old.commitment.digest().hex()}",
            *(f"shard {one.shard}: {len(one.stayed):,} documents stayed, {len(one.added):,} are new" for one in changes),
            f"commitment: {new.digest().hex()}",
            f"next: add {out} to `hidden_refreshed` in {config} and start the validator again",
        ],
        as_json=json,
    )


def opened_leaves(node: Config) -> frozenset[bytes]:
    """Return the leaves of every document that the node's Records have opened."""
    store, found = DirectoryStore(node.store), set[bytes]()
    events = node.state / "events.sqlite"
    for event in EventTable.open(events).all("record") if events.is_file() else ():
        for row in SignedRecord.from_bytes(event.payload, limit=MAX_RECORD_BYTES).record.openings:
            opened = OpenedSubset.from_bytes(store.get(row.documents, limit=MAX_OPENINGS_BYTES), limit=MAX_OPENINGS_BYTES)
            found.update(one.leaf() for one in opened.openings)
    return frozenset(found)


@app.command("verify")
def verify_command(
    directory: Annotated[list[Path] | None, typer.Argument(help="Public data or hidden pools; by default those of --config.")] = None,
    config: Annotated[Path | None, typer.Option(help="A node's TOML: check that these are the data that its Rules name.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the hidden pools; by default beside each, or that of --config.")] = None,
    json: JsonOption = False,
) -> None:
    """Check every byte of prepared data against its manifest; exit 1 says what differs.

    A hidden pool is opened with its key, and every document compared with the commitment.
    """
    wanted = _wanted(directory or [], config, key)
    found = {place: verify(place, expect=one.expect, key=one.key) for place, one in wanted.items()}
    value: dict[str, Any] = {
        str(place): [{"file": one.file, "problem": one.problem} for one in findings] for place, findings in found.items()
    }
    emit(value, [text for place, findings in found.items() for text in _said(place, findings)], as_json=json)
    raise typer.Exit(Exit.NEGATIVE if any(found.values()) else Exit.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a directory is compared with."""

    expect: bytes | None
    """Digest that its manifest must have, None for any."""
    key: Path | None


def _wanted(directories: list[Path], config: Path | None, key: Path | None) -> dict[Path, _Wanted]:
    wanted = {place: _Wanted(expect=None, key=key) for place in directories}
    if config is not None:
        node = load_config(config)
        rules = load_profile(node.profile).rules.data
        wanted[node.data] = _Wanted(expect=rules.manifest, key=None)
        if node.hidden is not None:
            wanted[node.hidden] = _Wanted(expect=rules.hidden_commitment, key=key or node.hidden_key)
    if not wanted:
        raise ConfigurationError("name a directory to verify, or a node's --config")
    return wanted


def _said(place: Path, findings: list[Finding]) -> list[str]:
    if not findings:
        return [f"{place}: exactly what its manifest says"]
    return [f"{Reason.OPS_DATA}: {place}: {one.file}: {one.problem}" for one in findings]
