"""HunyuanVideo for vcorr."""
