"""Pictures of hands: skeletons, meshes, views from the side, clips, and sheets of the worst cases.

All take plain arrays and return RGB uint8. Points are pixels with centres at integers; lengths are millimetres in the
camera's frame (x right, y down, z forward).
"""

from handvit.draw.enlarge import enlarged, enlarged_K, enlarged_points
from handvit.draw.meshes import MESH_COLORS, draw_mesh_outline, draw_meshes, project_mm
from handvit.draw.record import draw_record, labelled_meshes_mm
from handvit.draw.sheets import Case, Figure, case_sheet, clip_strip, distribution_strip, side_view
from handvit.draw.skeletons import FINGER_COLORS, PREDICTION, draw_box, draw_hand, draw_pair, joint_colors
from posecore.draw import TRUTH

__all__ = [
    "FINGER_COLORS",
    "MESH_COLORS",
    "PREDICTION",
    "TRUTH",
    "Case",
    "Figure",
    "case_sheet",
    "clip_strip",
    "distribution_strip",
    "draw_box",
    "draw_hand",
    "draw_mesh_outline",
    "draw_meshes",
    "draw_pair",
    "draw_record",
    "enlarged",
    "enlarged_K",
    "enlarged_points",
    "joint_colors",
    "labelled_meshes_mm",
    "project_mm",
    "side_view",
]
