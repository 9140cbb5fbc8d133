"""Video UNets for vcorr: Stable Video Diffusion, ModelScope, ZeroScope and AnimateDiff."""
