"""Unsupervised keypoints from multi-view diffusion: StableKeypoints, Zero123++ and their joint training."""

__version__ = "0.1.0"
