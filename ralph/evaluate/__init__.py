"""Hidden evaluation: claim, then audit.

    claims     sandbox A answers one claimed loss per token of whole rows; the host freezes them
    sheet      where frozen claims lie: a file without a name
    draw       secret cells, uniform and weighted by what is claimed to be gained
    probes     sandbox B answers logits of single prefixes; the host computes the true losses
    estimator  claims corrected by probes: unbiased whatever was claimed
    measure    the whole measurement, with the replay that comes before an accusation
    redraw     what a measurement would have given under other draws, for benchmarks and tests

Nothing here imports torch: models run in sandboxes only.
"""
