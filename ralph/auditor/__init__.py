"""The auditor: recompute what a validator published from its files and the chain alone. A signature attributes, it never validates."""
