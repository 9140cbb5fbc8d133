"""Brings video UNets to vcorr: Stable Video Diffusion, ModelScope, ZeroScope and AnimateDiff."""
