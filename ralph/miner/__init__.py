"""The miner: announce, prove, bundle, submit. Where the patch comes from is not its business."""
