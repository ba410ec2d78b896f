"""`ralph bench`: named benchmarks, each printing its figures, their spread and the machine's identity.

A benchmark asserts nothing. Machines are shared and noisy, so CPU seconds are given where they exist, and
speeds are ratios within one run.
"""
