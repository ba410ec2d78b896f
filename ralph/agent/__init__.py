"""The miner's research agent: proposes edits of the recipe, tries them in private, keeps what is real.

The controller (``loop.py``) owns the loop; a proposer is a pure function from what is known to one edit. Nothing here
knows which edits help: what can be edited is declared by the recipe, the rest is measured.
"""
