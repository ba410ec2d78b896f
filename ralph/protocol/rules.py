"""Rules: every value that validators must agree on.

Whatever changes a Verdict, a crown or a weight is a field here. The digest of the Rules is part of
every Record, so a changed number is a new version with an activation block, never a local setting.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ralph.protocol.canonical import U64, Canonical, Digest, Real
from ralph.protocol.scoring_rules import EvaluationRules, ExamRules, GuardRules, HiddenRules


class RoundRules(Canonical):
    """Block arithmetic of a round. Offsets count from the round's first block."""

    TAG: ClassVar[str] = "recipe-net/rules/round/v1"

    length: U64
    announce_end: U64
    """A: announcements must be in the state of this block."""
    beacon_one: U64
    submit_end: U64
    """S: bundle digests must be in the state of this block."""
    beacon_two: U64
    measure_end: U64
    """J: validators have run what B2 drew."""
    first_block: U64
    """First block of round 0."""


class PatchRules(Canonical):
    """What a patch may touch, and how much of it."""

    TAG: ClassVar[str] = "recipe-net/rules/patch/v1"

    patchable: tuple[str, ...]
    """Exact paths or directory prefixes ending in ``/`` that may be modified or added below."""
    suffixes: tuple[str, ...]
    max_patch_bytes: U64
    max_file_bytes: U64
    max_changed_files: U64
    max_added_lines: U64
    max_literal_bytes: U64
    """Bytes in added string, bytes and number literals together."""


class BundleRules(Canonical):
    """Limits on a submission's bundle."""

    TAG: ClassVar[str] = "recipe-net/rules/bundle/v1"

    max_files: U64
    max_total_bytes: U64
    max_path_length: U64
    max_document_bytes: U64
    """Limit of each structured file (hypothesis, announcement, environment, licence)."""


class Rung(Canonical):
    """One training scale with its budget."""

    TAG: ClassVar[str] = "recipe-net/rules/rung/v1"

    name: str
    device: Literal["cpu", "cuda"]
    width: U64
    """The recipe's one dial of size."""
    sequence: U64
    """T: tokens per row, in training and in evaluation."""
    batch_factor: Annotated[U64, Field(ge=1)]
    """Rows in a batch for each row that the recipe asks for: one patch means the same batch, relative to the rung, everywhere."""
    tokens: U64
    """Most tokens that a run may train on."""
    max_steps: U64
    max_parameters: U64
    max_memory_bytes: U64
    """Of the worker: of the process on a CPU rung, of the device on a GPU rung."""
    max_loss_nats: Real
    """A training loss above this ends the run."""
    reference_s: U64
    """Most seconds of training on the judges' reference machine, checked afterwards; 0 for no cap: on CPU rungs a clock decides nothing."""
    max_time_ratio: Real
    """Most time that a training may take, as a multiple of the king's on the same machine; 0 for no limit."""
    seeds: U64
    """Runs of the genesis recipe that sigma of this rung is measured from."""
    timeout_s: U64
    """A generous limit on the judges' side; running over it is theirs to retry, never a verdict on CPU rungs."""
    segments: U64


class DataRules(Canonical):
    """Which data the track trains and scores on."""

    TAG: ClassVar[str] = "recipe-net/rules/data/v1"

    manifest: Digest
    """Digest of the DataManifest: shards, tokenizer, sources."""
    vocabulary: U64
    hidden_fraction: Real
    """Share of the documents that is hidden, decided by their digests: what is opened must belong there."""
    validation_fraction: Real
    hidden_commitment: Digest
    """Digest of the first PoolCommitment; its documents are with the measuring validator only. Refreshes follow in anchors."""


class CrownRules(Canonical):
    """The sequential decision rule for one decision rung. Looks are cumulative run counts."""

    TAG: ClassVar[str] = "recipe-net/rules/crown/v1"

    rung: str
    sigma: Real
    """Run-to-run standard deviation of val_bpb at the decision rung: a unit, never a test statistic."""
    variance_reference: Real
    """v_ref: variance of X between neutral patches, upper bound."""
    control_weight: Real
    """b of X = b k - c, where the king has a pool on the same documents; 1 elsewhere."""
    pool_runs: U64
    screen_runs: U64
    screen_threshold: Real
    filter_looks: tuple[U64, ...]
    filter_drop: tuple[Real, ...]
    filter_advance: tuple[Real, ...]
    proof_looks: tuple[U64, ...]
    proof_weights: tuple[Real, ...]
    """Share w of the entry's alpha that each look may spend; they sum to 1."""
    proof_drop: tuple[Real, ...]
    """Drop below this t after each look but the last; after the last everything that is no crown drops."""
    alpha_reign: Real
    """2 x the error budget of a reign: entry j spends alpha_reign / ((j + 1)(j + 2))."""
    minimum_gain_sigmas: Real
    probation_runs: U64
    """Runs after the crown, of the king and of the king before, with which probation ends."""
    max_cases_per_round: U64


class CanaryRules(Canonical):
    """When a king is demoted and the king before him restored."""

    TAG: ClassVar[str] = "recipe-net/rules/canary/v1"

    probation_per_round: U64
    """Seeds a round on which a king on probation and the king before him are run beside each other."""
    probation_minimum: U64
    """Scored runs a side from which a roll-back is decided."""
    probation_level: Real
    """Confidence of the upper Welch bound of the gain; below zero means roll back."""
    probation_failures: Annotated[U64, Field(ge=1)]
    """Failed runs on probation that mean roll back where the king before failed more rarely."""
    rotation_minimum: U64
    """Stored runs a side without which new documents decide nothing."""
    rotation_runs: U64
    """Newest runs of the king before that are scored again when documents change; his others are forgotten."""
    rotation_margin_sigmas: Real
    """Loss against the king before, on documents drawn after the crown, from which a regression is material."""
    rotation_level: Real
    """Confidence of the upper Welch bound of that gain."""
    replay_rounds: U64
    """Every so many rounds one run of the reign is trained again and must repeat; 0 for never."""
    executors: Annotated[U64, Field(ge=1)]
    """Validators that must each have seen a king fail while the reference holds."""


class EmissionRules(Canonical):
    """Who is paid what. Shares of one emission, decimals that sum to 1 where they split something."""

    TAG: ClassVar[str] = "recipe-net/rules/emission/v1"

    king_share: Real
    probation_share: Real
    """Part of the king's share that a new king earns until his probation runs are in."""
    decay_per_round: Real
    """Factor on the king's share per round of his reign."""
    royalty_generations: U64


class Rules(Canonical):
    """Every value that changes a Verdict, a crown or a weight."""

    TAG: ClassVar[str] = "recipe-net/rules/v1"

    version: U64
    track: str
    track_number: U64
    """The track's byte in the slot."""
    genesis_tree: Digest
    rounds: RoundRules
    patch: PatchRules
    bundle: BundleRules
    ladder: tuple[Rung, ...]
    data: DataRules
    evaluation: EvaluationRules
    hidden: HiddenRules
    crown: CrownRules
    guards: GuardRules
    exam: ExamRules
    canary: CanaryRules
    emission: EmissionRules
    announcements_per_coldkey: U64
    defer_limit: U64
    """How often work that failed on our side is tried before the case is set aside."""

    def rung(self, name: str) -> Rung:
        """Return the rung called ``name``. Raises KeyError when the ladder has none."""
        for rung in self.ladder:
            if rung.name == name:
                return rung
        raise KeyError(name)
