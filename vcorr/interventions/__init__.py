"""Changes what a model computes while it runs: guidances (docs/guidance.md), knock-outs and attention windows."""
