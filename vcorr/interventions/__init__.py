"""Changes what a model computes while it runs: guidances, knock-outs and attention windows.

See docs/guidance.md and docs/knockouts.md.
"""
