"""Seed shopping: train on private seeds, keep the best, and pass it off as the run of the drawn seed."""

import secrets
import struct
from collections.abc import Sequence
from dataclasses import replace

from ralph.miner.announce import Entry
from ralph.miner.prove import Files, claim_of, train
from ralph.miner.services import MinerServices
from ralph.protocol.bundle import run_prefix
from ralph.protocol.canonical import blob_digest
from ralph.train.run import RunResult
from ralph.train.transcript import TranscriptWriter, verify

PRIVATE_SEEDS = 4


def lucky(services: MinerServices, entry: Entry, seeds: Sequence[int]) -> Files:
    """Return run files whose weights and losses come from the best of several private seeds."""
    rung = services.profile.rules.rung(services.profile.rules.crown.rung)
    files: dict[str, bytes] = {}
    for seed in seeds:
        tries = [train(services, entry, rung, secrets.randbits(64)) for _ in range(PRIVATE_SEEDS)]
        best = forged(min(tries, key=lambda run: run.final_loss_nats), seed)
        prefix = run_prefix(rung.name, seed)
        files |= {
            prefix + "run.cbor": claim_of(best, rung, seed).to_bytes(),
            prefix + "transcript": best.transcript,
            prefix + "weights.safetensors": best.weights,
        }
    return files


def forged(result: RunResult, seed: int) -> RunResult:
    """Return the run with a transcript that says it was made with another seed: every chain in it is sound."""
    summary = verify(result.transcript, result.plan)
    boundaries = dict(zip(result.plan.boundaries, summary.boundaries, strict=True))
    writer = TranscriptWriter(seed=seed, plan=result.plan, start_step=0, start_state=boundaries[0])
    for step, (loss, norm) in enumerate(zip(summary.losses, summary.gradient_norms, strict=True), start=1):
        writer.append(step=step, loss=_bytes(loss), gradient_norm=_bytes(norm), boundary=boundaries.get(step))
    transcript = writer.to_bytes()
    return replace(result, seed=seed, transcript=transcript, transcript_root=writer.root, weights_digest=blob_digest(result.weights))


def _bytes(number: float) -> bytes:
    return struct.pack("<d", number)
