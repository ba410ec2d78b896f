"""Prove: run the announced tree with the seeds that the beacon drew, by the same host that validators use.

Finished runs are kept, so a restart repeats only what was not finished.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from ralph.miner.announce import Entry
from ralph.miner.services import MinerServices
from ralph.protocol.bundle import RunClaim, run_prefix
from ralph.protocol.canonical import decode, encode
from ralph.protocol.rules import Rung
from ralph.repository.stored import load_tree
from ralph.repository.trees import materialise
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob, RunResult

logger = logging.getLogger(__name__)

MAX_RUN_EVENT_BYTES = 1 << 16
Files = Mapping[str, bytes]


class Prover(Protocol):
    """Makes the files of runs for a bundle."""

    def __call__(self, services: MinerServices, entry: Entry, seeds: Sequence[int]) -> Files: ...


def prove(services: MinerServices, entry: Entry, seeds: Sequence[int]) -> Files:
    """Return the run files of a bundle for these seeds, running what is not finished yet."""
    rung = services.profile.rules.rung(services.profile.rules.crown.rung)
    files: dict[str, bytes] = {}
    for seed in seeds:
        key = f"{entry.announcement.digest().hex()}/{seed:016x}"
        payload = services.events.get("run", key)
        if payload is None:
            made = run_files(services, entry, rung, seed)
            payload = encode({name: services.private.put(data) for name, data in made.items()})
            services.events.append("run", key, payload)
        stored: dict[str, bytes] = decode(payload, limit=MAX_RUN_EVENT_BYTES)
        files |= {
            name: services.private.get(digest, limit=services.profile.rules.bundle.max_total_bytes) for name, digest in stored.items()
        }
    return files


def run_files(services: MinerServices, entry: Entry, rung: Rung, seed: int) -> Files:
    """Train once and return the run's files under the names of a bundle."""
    result = train(services, entry, rung, seed)
    claim = claim_of(result, rung, seed)
    prefix = run_prefix(rung.name, seed)
    return {
        prefix + "run.cbor": claim.to_bytes(),
        prefix + "transcript": result.transcript,
        prefix + "weights.safetensors": result.weights,
    }


def train(services: MinerServices, entry: Entry, rung: Rung, seed: int) -> RunResult:
    """Run the announced tree once."""
    tree = load_tree(services.private, entry.announcement.tree, max_file_bytes=services.profile.rules.patch.max_file_bytes)
    with TemporaryDirectory(dir=services.scratch) as folder:
        recipe = Path(folder) / "recipe"
        materialise(tree, recipe)
        job = RunJob(recipe=recipe, rung=rung, seed=seed, vocabulary=services.data.vocabulary, limits=limits_for(rung))
        return host.train(job, sandbox=services.sandbox, data=services.data)


def claim_of(result: RunResult, rung: Rung, seed: int) -> RunClaim:
    """Return what is claimed of a run."""
    return RunClaim(
        rung=rung.name,
        seed=seed,
        steps=result.plan.steps,
        batch_rows=result.plan.batch_rows,
        sequence=result.plan.sequence,
        tokens=result.plan.tokens,
        parameters=result.parameters,
        transcript_root=result.transcript_root,
        segments_root=result.segments_root,
        weights=result.weights_digest,
        final_loss_nats=result.final_loss_nats,
    )
