"""Scores and Measurements that nobody measured, for tests of what is done with them."""

from typing import Any

from ralph.protocol.measurement import Measurement, Score
from ralph.protocol.pool import Subset


def score(val_bpb: float, **changes: Any) -> Score:
    """Return a score without a mismatch."""
    fields: dict[str, Any] = {
        "val_bpb": val_bpb,
        "claimed_bpb": val_bpb,
        "correction_nats": 0.0,
        "standard_error_nats": 0.0,
        "worst_mismatch_nats": 0.0,
        "exceedances": 0,
        "cells": 2560,
        "documents": 1,
        "draw": bytes(32),
        "sources": (),
    }
    return Score(**(fields | changes))


def measurement(**changes: Any) -> Measurement:
    """Return an executed proof run on ``confirm`` with neither score nor failure; role, tree and seed are to be given."""
    fields: dict[str, Any] = {
        "round": 3,
        "executor": "5V",
        "stage": "proof",
        "rung": "C1",
        "executed": True,
        "subset": Subset(shard="confirm", rotation=0),
        "environment": bytes(32),
        "transcript_root": bytes(32),
        "segments_root": bytes(32),
        "weights": bytes(32),
        "parameters": 1,
        "tokens": 1,
        "score": None,
        "failure": None,
    }
    return Measurement(**(fields | changes))
