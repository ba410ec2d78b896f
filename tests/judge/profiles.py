"""CrownRules of the design's two profiles, for tests."""

from ralph.protocol.rules import CrownRules


def _variance(sigma: float, control_weight: float, rho: float) -> float:
    """Variance of X = b k - c between two patches of sd sigma whose runs on one seed correlate by rho."""
    return float(sigma**2 * (1 + control_weight**2 - 2 * control_weight * rho))


def devnet_crown_rules(*, sigma: float = 0.012, control_weight: float = 0.75, rho: float = 0.3) -> CrownRules:
    return CrownRules(
        rung="C1",
        sigma=sigma,
        variance_reference=_variance(sigma, control_weight, rho),
        control_weight=control_weight,
        pool_runs=8,
        screen_runs=1,
        screen_threshold=0.5,
        filter_looks=(2, 4),
        filter_drop=(0.3,),
        filter_advance=(3.0, 1.5),
        proof_looks=(4, 8),
        proof_weights=(0.3, 0.7),
        proof_drop=(0.6,),
        alpha_reign=0.08,
        minimum_gain_sigmas=0.1,
        probation_runs=8,
        max_cases_per_round=8,
    )


def mainnet_crown_rules(*, sigma: float = 0.0004, control_weight: float = 0.75, rho: float = 0.3) -> CrownRules:
    return CrownRules(
        rung="S3",
        sigma=sigma,
        variance_reference=_variance(sigma, control_weight, rho),
        control_weight=control_weight,
        pool_runs=16,
        screen_runs=1,
        screen_threshold=0.5,
        filter_looks=(2, 4, 8, 16),
        filter_drop=(0.0, 0.6, 1.2),
        filter_advance=(2.5, 2.2, 2.0),
        proof_looks=(8, 16, 32, 48),
        proof_weights=(0.2, 0.3, 0.3, 0.2),
        proof_drop=(0.6, 1.3, 2.0),
        alpha_reign=0.016,
        minimum_gain_sigmas=0.1,
        probation_runs=48,
        max_cases_per_round=16,
    )
