"""Changes what attention computes while a model runs: knock-outs (docs/knockouts.md) and attention windows."""
