"""Print the golden vectors of the wire formats: `python scripts/make_vectors.py > tests/vectors/protocol.json`.

A change of this file's output is a change of the protocol and needs a new version in the tag.
"""

import json
import struct
from typing import Any

from ralph.data.partition import document_digest, pool_of, shard_of
from ralph.evaluate.active import active_subset
from ralph.protocol import seeds
from ralph.protocol.announcement import Announcement, Environment, Hypothesis, Slot, anchor_payload, case_id
from ralph.protocol.bundle import RunClaim, manifest_of
from ralph.protocol.canonical import Canonical, digest, encode
from ralph.protocol.measurement import (
    ExactScore,
    ExactScores,
    GuardRow,
    Measurement,
    Score,
    SignedMeasurement,
    SourceValue,
    TaskValue,
    set_digest,
)
from ralph.protocol.merkle import leaf_hash, tree_hash
from ralph.protocol.network import NetworkProfile, devnet_rules
from ralph.protocol.patch import RecipeTree
from ralph.protocol.pool import SHARDS, OpenedSubset, Opening, PoolCommitment, PoolLeaves, ShardCommitment, SourceCount, Subset, leaf_of
from ralph.protocol.record import (
    Anchor,
    BeaconRow,
    CaseRow,
    CrownRow,
    DemotionRow,
    LookRow,
    OpeningRow,
    OutcomeRow,
    Record,
    Refusal,
    WatchRow,
)
from ralph.protocol.rules import Rules
from ralph.protocol.submission import Submission


def fill(number: int, size: int = 32) -> bytes:
    """Return ``size`` equal bytes."""
    return bytes([number]) * size


HYPOTHESIS = Hypothesis(
    change="learning rate x2",
    mechanism="underfit",
    predicted_gain_bpb=0.2,
    predicted_low_bpb=0.1,
    predicted_high_bpb=0.3,
    falsifier="none",
)
ENVIRONMENT = Environment(
    system="Linux x86_64", python="3.11", torch="2.13.0", device="cpu", instruction_set="AVX2", threads=1, sandbox="bubblewrap"
)
ANNOUNCEMENT = Announcement(
    tree=fill(1),
    parent=fill(2),
    hotkey="5F",
    track="small-lm-cpu",
    hypothesis=HYPOTHESIS.digest(),
    environment=ENVIRONMENT.digest(),
    salt=fill(3),
)
CLAIM = RunClaim(
    rung="C1",
    seed=7,
    steps=100,
    batch_rows=16,
    sequence=64,
    tokens=102_400,
    parameters=60_000,
    transcript_root=fill(4),
    segments_root=fill(5),
    weights=fill(6),
    final_loss_nats=3.25,
)


AUDIT = Subset(shard="audit", rotation=1)


def measured() -> Measurement:
    """Return a scored measurement."""
    score = Score(
        val_bpb=2.5,
        claimed_bpb=2.5,
        correction_nats=1e-17,
        standard_error_nats=0.0,
        worst_mismatch_nats=5.6e-15,
        exceedances=0,
        cells=2560,
        documents=1024,
        draw=fill(7),
        sources=(SourceValue(source="code", val_bpb=2.25, documents=800),),
    )
    return Measurement(
        round=3,
        executor="5V",
        role="challenger",
        stage="proof",
        tree=fill(1),
        rung="C1",
        seed=2**64 - 1,
        executed=True,
        subset=Subset(shard="confirm", rotation=0),
        environment=ENVIRONMENT.digest(),
        transcript_root=fill(4),
        segments_root=fill(5),
        weights=fill(6),
        parameters=60_000,
        tokens=102_400,
        score=score,
        failure=None,
        tasks=(TaskValue(task="arc_easy", items=100, accuracy=0.25, gold_bpb=1.5),),
        guards=(GuardRow(kind="source", name="code", runs=4, items=512, difference=-0.0125, upper=0.0009765625),),
        document_error=0.00390625,
    )


def record_of(rules: Rules) -> Record:
    """Return a Record with one of everything."""
    case = CaseRow(
        hotkey="5F",
        coldkey="5C",
        announcement=ANNOUNCEMENT.digest(),
        parent=fill(2, 8),
        bundle=fill(9),
        tree=fill(1),
        normalised=fill(10),
        patch=fill(11),
        hypothesis=HYPOTHESIS,
        environment=ENVIRONMENT.digest(),
        claims=(CLAIM,),
        stage="screen",
        refusal=Refusal(gate="novelty", reason="INT-DUP", detail="copy"),
    )
    look = LookRow(runs=4, gain_bpb=0.2, standard_error_bpb=0.01, statistic=20.0, threshold=6.32, entry=1, alpha=0.004)
    outcome = OutcomeRow(case=case.case, state="rejected", reason="INT-DUP", detail="copy", look=look)
    beacon = BeaconRow(name="B2", block=21, block_hash=fill(12), drand_round=22, drand_signature=fill(13, 64), beacon=fill(14))
    return Record(
        round=3,
        track=rules.track,
        chain=fill(17),
        rules=rules.digest(),
        validator="5V",
        previous=fill(18),
        beacons=(beacon,),
        king=fill(2),
        environments=(ENVIRONMENT,),
        cases=(case,),
        measurements=(SignedMeasurement(measurement=measured(), signature=fill(8, 64)),),
        outcomes=(outcome,),
        crown=CrownRow(
            tree=fill(1),
            parent=fill(2),
            hotkey="5F",
            announcement=ANNOUNCEMENT.digest(),
            gain_bpb=0.2,
            tag="recipe-v1.1.0",
            sealed=fill(29),
            sealed_documents=32,
            sub_pools=1,
        ),
        hidden=fill(16),
        watch=(WatchRow(subset=AUDIT, king=fill(1), previous=fill(2), runs=2, gain_bpb=0.125, standard_error_bpb=0.0625),),
        openings=(OpeningRow(subset=AUDIT, documents=fill(30), scores=fill(31)),),
        demotion=DemotionRow(
            tree=fill(2),
            hotkey="5F",
            restored=fill(19),
            restored_hotkey="",
            reason="STA-ROLLBACK",
            detail="gain below zero",
            evidence=(measured().digest(),),
            tag="recipe-v1.1.1",
        ),
    )


TOKENS = b"\x01\x00\xff\x03"
LEAVES = (leaf_of(salt=fill(24), source="code", tokens=TOKENS), fill(25))
POOL = PoolCommitment(
    tokenizer=fill(26),
    vocabulary=1024,
    pool=1,
    pools=3,
    refresh=2,
    previous=fill(27),
    shards=tuple(
        ShardCommitment(
            shard=name, root=tree_hash(LEAVES), sources=(SourceCount(source="code", documents=2), SourceCount(source="docs", documents=0))
        )
        for name in SHARDS
    ),
)
OPENING = Opening(
    commitment=POOL.digest(), shard="confirm", index=0, source="code", salt=fill(24), tokens=TOKENS, path=(leaf_hash(LEAVES[1]),)
)


def structures() -> dict[str, Canonical]:
    """Return one value of each hashed or signed structure."""
    rules = devnet_rules(genesis_tree=fill(2), manifest=fill(15), vocabulary=1024, hidden=fill(16), sources=("code", "docs"))
    return {
        "hypothesis": HYPOTHESIS,
        "environment": ENVIRONMENT,
        "announcement": ANNOUNCEMENT,
        "run-claim": CLAIM,
        "manifest": manifest_of({"licence": b"Apache-2.0\n", "patch.diff": b"diff"}),
        "submission": Submission(hotkey="5F", announcement=ANNOUNCEMENT.digest(), nonce=fill(19), bundle=fill(9), signature=fill(20, 64)),
        "measurement": measured(),
        "record": record_of(rules),
        "anchor": Anchor(round=3, size=4, root=fill(21), record=fill(22), measurements=None, hidden=fill(16), previous=fill(23)),
        "pool-commitment": POOL,
        "pool-leaves": PoolLeaves.of(dict.fromkeys(SHARDS, LEAVES)),
        "pool-opening": OPENING,
        "pool-opened-subset": OpenedSubset(hotkey="5V", subset=Subset(shard="confirm", rotation=0, crown=3), openings=(OPENING,)),
        "exact-scores": ExactScores(
            subset=AUDIT, scores=(ExactScore(measurement=fill(32), val_bpb=2.25, document_nats=struct.pack("<2d", 1.5, 2.5)),)
        ),
        "network-profile": NetworkProfile(name="devnet", chain=fill(17), netuid=1, rules=rules),
    }


def vectors() -> dict[str, Any]:
    """Return name -> expected bytes and digests in hexadecimal."""
    found: dict[str, Any] = {name: {"bytes": one.to_bytes().hex(), "digest": one.digest().hex()} for name, one in structures().items()}
    slot = Slot(track=1, parent=fill(2, 8), announcement=fill(3), bundle=fill(4))
    beacon = seeds.beacon(block_hash=fill(1), drand_signature=fill(2, 64))
    found["slot"] = slot.to_bytes().hex()
    found["anchor-slot"] = anchor_payload(fill(5)).hex()
    found["case-id"] = case_id(fill(6), "5F").hex()
    found["beacon"] = beacon.hex()
    found["nonce"] = seeds.nonce(beacon_one=beacon, announcement=fill(3), hotkey="5F").hex()
    found["seed"] = seeds.seed(beacon=beacon, track="small-lm-cpu", round_index=3, purpose="proof", rung="C1", index=2)
    found["draw"] = seeds.draw(beacon=beacon, purpose="queue", subject=fill(3)).hex()
    found["digest"] = digest("recipe-net/test/v1", {"b": [1, -1, None, True, b"x", "y"], "a": 2**64 - 1}).hex()
    found["cbor"] = encode({"b": [1, -1, None, True, b"x", "y"], "aa": 2**64 - 1}).hex()
    tree = RecipeTree(files={"model.py": b"x = 1\n", "config/base.toml": b"[a]\nvalue = 1\n"})
    found["tree"] = {"bytes": tree.to_bytes().hex(), "digest": tree.digest().hex(), "normalised": tree.normalised_digest().hex()}
    found["pool-places"] = [[pool_of(document_digest(text), 3), shard_of(document_digest(text))] for text in ("a", "b", "c", "d", "e", "f")]
    found["pool-leaf"] = LEAVES[0].hex()
    found["pool-active"] = {
        subset.key: list(active_subset(beacon=fill(28), hotkey="5V", subset=subset, places=range(160), count=16))
        for subset in (
            *(Subset(shard=name, rotation=0) for name in SHARDS),
            Subset(shard="screen", rotation=1),
            Subset(shard="confirm", rotation=0, crown=3),
        )
    }
    found["pool-active-unused"] = list(active_subset(beacon=fill(28), hotkey="5V", subset=AUDIT, places=range(1, 160, 2), count=16))
    found["measurement-set"] = set_digest(()).hex()
    return found


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, sort_keys=True))
