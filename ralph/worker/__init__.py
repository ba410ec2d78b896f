"""The untrusted side: runs inside the sandbox, loads the recipe and answers the host's frames.

It needs torch, numpy and ``ralph.train.wire``, and nothing else of ours. The recipe shares its process, so every
word it sends is a claim.
"""
