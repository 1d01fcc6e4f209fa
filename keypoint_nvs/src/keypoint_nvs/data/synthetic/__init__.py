"""Made-up objects: animals of eight ellipsoids, with exact alpha, cameras and keypoints, stored as real data are."""

from keypoint_nvs.data.synthetic.anatomy import NUM_PARTS, PART_NAMES
from keypoint_nvs.data.synthetic.dataset import synthesise, synthetic_samples
from keypoint_nvs.data.synthetic.objects import make_object, make_sequence
from keypoint_nvs.data.synthetic.options import SyntheticOptions

__all__ = [
    "NUM_PARTS",
    "PART_NAMES",
    "SyntheticOptions",
    "make_object",
    "make_sequence",
    "synthesise",
    "synthetic_samples",
]
