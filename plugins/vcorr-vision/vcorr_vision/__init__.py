"""Image and video backbones for vcorr: DINO, DINOv2, DINOv3, VideoMAE, V-JEPA 2, and DIFT on Stable Diffusion."""
