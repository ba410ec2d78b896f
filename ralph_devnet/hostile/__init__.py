"""Recipes that cheat, leak or destroy while they are evaluated: what benchmarks and tests attack our own evaluation with.

    payloads/   one attack a file, in the attacker's words
    recipes     makes a copy of the recipe that carries a payload
    catalogue   every attack, and how it must end
    whispers    what one sandbox tells a later one

Nothing here is imported by ``ralph``, and a payload runs in a sandbox only.
"""
