"""Brings image and video backbones to vcorr: DINO, DINOv2, DINOv3, VideoMAE, V-JEPA 2, XFeat, DIFT on Stable Diffusion."""
