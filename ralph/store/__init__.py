"""Bundle stores: one file per implementation of ``interfaces.BundleStore``."""
