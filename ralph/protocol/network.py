"""Network profiles: Rules plus the identity of the chain they hold on.

The devnet profile is derived from the data that is on the machine, so `ralph init` writes it once the
data exists. testnet and mainnet profiles do not exist yet.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from ralph.protocol.canonical import U64, Canonical, Digest
from ralph.protocol.data import HIDDEN_FRACTION, VALIDATION_FRACTION
from ralph.protocol.rules import BundleRules, CanaryRules, CrownRules, DataRules, EmissionRules, PatchRules, RoundRules, Rules, Rung
from ralph.protocol.scoring_rules import EvaluationRules, ExamRules, GuardRules, HiddenRules, ToleranceRules

MIB = 1024 * 1024
MAX_PROFILE_BYTES = 1 << 16


class NetworkProfile(Canonical):
    """Which chain, and by which rules."""

    TAG: ClassVar[str] = "recipe-net/network-profile/v1"

    name: Annotated[str, Field(pattern="^(devnet|testnet|mainnet)$")]
    chain: Digest
    """Hash of the chain's genesis block."""
    netuid: U64
    rules: Rules


MAX_LOSS_NATS = 100.0
"""No untrained model of these vocabularies is near: ln(65,536) is 11."""
MAX_TIME_RATIO = 1.10
"""On GPU rungs a training may be a tenth slower than the king's: room for honest cost and for the spread between two trainings
on one machine, none for a second pass over the same tokens. CPU rungs share their cores with other work and carry no ratio."""


def _cpu(
    name: str, *, width: int, sequence: int, tokens: int, max_steps: int, max_parameters: int, memory_mib: int, timeout_s: int
) -> Rung:
    return Rung(
        name=name,
        device="cpu",
        width=width,
        sequence=sequence,
        batch_factor=1,
        tokens=tokens,
        max_steps=max_steps,
        max_parameters=max_parameters,
        max_memory_bytes=memory_mib * MIB,
        max_loss_nats=MAX_LOSS_NATS,
        reference_s=0,
        max_time_ratio=0.0,
        seeds=16,
        timeout_s=timeout_s,
        segments=5,
    )


def _gpu(
    name: str, *, width: int, batch_factor: int, steps: int, max_parameters: int, memory_gib: int, reference_s: int, seeds: int
) -> Rung:
    """Return a GPU rung of rows of 1024 tokens, with 16 rows in a batch for each ``batch_factor``."""
    return Rung(
        name=name,
        device="cuda",
        width=width,
        sequence=1024,
        batch_factor=batch_factor,
        tokens=steps * 16 * batch_factor * 1024,
        max_steps=4 * steps,
        max_parameters=max_parameters,
        max_memory_bytes=memory_gib * 1024 * MIB,
        max_loss_nats=MAX_LOSS_NATS,
        reference_s=reference_s,
        max_time_ratio=MAX_TIME_RATIO,
        seeds=seeds,
        timeout_s=4 * reference_s + 600,
        segments=5,
    )


LADDER = (
    _cpu("C1", width=32, sequence=64, tokens=102_400, max_steps=200, max_parameters=150_000, memory_mib=2048, timeout_s=120),
    _cpu("C2", width=64, sequence=128, tokens=409_600, max_steps=400, max_parameters=400_000, memory_mib=2048, timeout_s=600),
    _cpu("C3", width=128, sequence=128, tokens=512_000, max_steps=500, max_parameters=2_000_000, memory_mib=4096, timeout_s=1800),
    _gpu("S1", width=256, batch_factor=4, steps=1000, max_parameters=64_000_000, memory_gib=40, reference_s=60, seeds=16),
    _gpu("S2", width=512, batch_factor=8, steps=1500, max_parameters=160_000_000, memory_gib=60, reference_s=360, seeds=16),
    _gpu("S3", width=768, batch_factor=16, steps=2000, max_parameters=400_000_000, memory_gib=76, reference_s=2040, seeds=24),
)
"""Every scale of the track, smallest first. C1 to C3 run on one CPU core in seconds; S1 to S3 on one H100 in about half a minute, three
minutes and seventeen minutes by the published throughput of comparable recipes, and their caps are twice that. On one
H200 genesis makes 646k tokens/s at S3: fourteen minutes."""

CPU_TOLERANCE = ToleranceRules(device="cpu", tau_nats=1e-5, share=0.0, level=0.0, worst_nats=1e-5, rms_nats=1e-5, probe_multiple=16)
"""Claims and probes of honest models agree to 1e-14 nats on a CPU, where the length of a row is a multiple of the 16 numbers of a vector
register; otherwise to 1e-6. One difference is enough."""
GPU_TOLERANCE = ToleranceRules(device="cuda", tau_nats=0.1, share=0.001, level=1e-6, worst_nats=1.0, rms_nats=0.02, probe_multiple=128)
"""Wider than what was measured, because recipes may bring kernels of their own: claims and probes of genesis in bfloat16 on an H200 agree
to 2e-15 nats at S1 and S3, at the claims' shape and at shorter ones. Lies below the limits gain nothing: the score is corrected."""

DEVNET_CROWN = CrownRules(
    rung="C1",
    sigma=0.03,
    variance_reference=0.0005,
    control_weight=0.75,
    pool_runs=8,
    screen_runs=1,
    screen_threshold=0.5,
    filter_looks=(2, 4),
    filter_drop=(0.3,),
    filter_advance=(3.0, 1.5),
    proof_looks=(4, 8),
    proof_weights=(0.3, 0.7),
    proof_drop=(0.6,),
    alpha_reign=0.08,
    minimum_gain_sigmas=0.1,
    probation_runs=8,
    max_cases_per_round=64,
)
"""The crown rule at devnet size. sigma lies between what runs of the genesis recipe at C1 showed: an sd of 0.033 in 16 runs with 512
token ids, 0.025 in 23 with 1024. Runs of small edits and of the king on equal seeds correlate at 0.7 to 1.0, of structural changes
hardly at all: hence b = 0.75, and a v_ref above what neutral patches show (0.07 of sigma squared)."""

DEVNET_HIDDEN = HiddenRules(rotation_rounds=100, screen=320, confirm=640, audit=320, crown=32, agreement_level=0.999, watched_runs=2)
"""The hidden pool of a standard library has 1,500 to 1,650 documents in ``confirm`` and about 780 each in ``screen`` and
``audit``: enough for two rotations and some ten crowns without a refresh. One document in eight is of source ``docs``."""


DEVNET_EXAM = ExamRules(
    uniform_options=16, weighted_options=16, tau_nats=1e-4, answers_margin=0.1, gold_margin_bpb=0.25, published_decimals=3
)
"""Margins for about a hundred items and four runs: at these scales most answers are guesses, and what two equally good models differ by is
some hundredths."""
DEVNET_CANARY = CanaryRules(
    probation_per_round=2,
    probation_minimum=6,
    probation_level=0.99,
    probation_failures=2,
    rotation_minimum=8,
    rotation_runs=16,
    rotation_margin_sigmas=0.75,
    rotation_level=0.9998,
    replay_rounds=4,
    executors=1,
)
"""Demotion at devnet size: roll-back from six runs a side on, where the full rule has sixteen, and one validator. Sixteen kept runs are the
eight beside which the king vested and eight of the reign before."""


def devnet_rules(
    *, genesis_tree: bytes, manifest: bytes, vocabulary: int, hidden: bytes, sources: tuple[str, ...], first_block: int = 1
) -> Rules:
    """Return the devnet's Rules over the data and recipe of this machine."""
    return Rules(
        version=1,
        track="small-lm-cpu",
        track_number=1,
        genesis_tree=genesis_tree,
        rounds=RoundRules(length=40, announce_end=8, beacon_one=11, submit_end=18, beacon_two=21, measure_end=32, first_block=first_block),
        patch=PatchRules(
            patchable=("model.py", "attention.py", "loss.py", "optim.py", "train.py", "config/base.toml", "pieces/"),
            suffixes=(".py", ".toml"),
            max_patch_bytes=65_536,
            max_file_bytes=131_072,
            max_changed_files=8,
            max_added_lines=400,
            max_literal_bytes=4_096,
        ),
        bundle=BundleRules(max_files=64, max_total_bytes=64 * MIB, max_path_length=120, max_document_bytes=16_384),
        ladder=LADDER,
        data=DataRules(
            manifest=manifest,
            vocabulary=vocabulary,
            hidden_fraction=HIDDEN_FRACTION,
            validation_fraction=VALIDATION_FRACTION,
            hidden_commitment=hidden,
        ),
        evaluation=EvaluationRules(
            uniform_cells=2048,
            weighted_cells=512,
            batch_rows=64,
            tolerances=(CPU_TOLERANCE, GPU_TOLERANCE),
            published_decimals=5,
            max_cost_ratio=4.0,
        ),
        hidden=DEVNET_HIDDEN,
        crown=DEVNET_CROWN,
        guards=GuardRules(sources=tuple(sorted(sources)), source_margin_sigmas=1.0, min_documents=48, level=0.95, resamples=2000),
        exam=DEVNET_EXAM,
        canary=DEVNET_CANARY,
        emission=EmissionRules(king_share=0.9, probation_share=0.25, decay_per_round=0.99, royalty_generations=8),
        announcements_per_coldkey=2,
        defer_limit=3,
    )
