"""Gates: one named check each, Case -> Finding, in order of cost. Used by validator, preflight and auditor alike.

No gate has an off switch. A gate that cannot run raises; it never passes.
"""
