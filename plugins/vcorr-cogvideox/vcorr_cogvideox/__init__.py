"""CogVideoX for vcorr."""
