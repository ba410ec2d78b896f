"""Chains and the keys that sign for them: one file per implementation of ``interfaces.Chain``."""
