"""Open LLM-pretraining research as a protocol.

One submission, from announcement to weights:

| step     | where                          | in -> out                                                        |
|----------|--------------------------------|------------------------------------------------------------------|
| research | ``agent/``                     | king's recipe -> a candidate patch that survived local experiments |
| announce | ``miner/announce``             | hash of (patch, parent, hypothesis, hotkey, salt) -> Announcement on chain |
| prove    | ``miner/prove``, ``train/``    | seeds from beacon B1 -> runs by the host, transcripts, weights   |
| submit   | ``miner/bundle``, ``miner/submit`` | ProofBundle in the content-addressed store, its digest on chain |
| intake   | ``validator/intake``           | Submission -> Case (unpacked within limits, facts pinned at a block) |
| judge    | ``gates/``                     | Case -> Verdict: announced, integrity, scope, novelty, plausible |
| measure  | ``validator/measure``, ``evaluate/`` | seeds from beacon B2 -> signed Measurements                |
| decide   | ``judge/``                     | pure function of Measurements -> crown, continue or drop         |
| record   | ``records/``                   | round -> signed Record in a Merkle log, published and read back  |
| pay      | ``validator/throne``, ``judge/weights`` | pure function of Records -> weights on chain            |

This package imports nothing heavy: reading the log and auditing need neither torch nor a network.
"""

__version__ = "0.1.0"
