"""Brings image and video backbones to vcorr: DINO (1 to 3), VideoMAE, V-JEPA 2, XFeat, DIFT on Stable Diffusion."""
