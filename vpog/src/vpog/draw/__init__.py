"""Pictures of groups, labels, matches and poses."""

from vpog.draw.flows import color_wheel, draw_dense_patch, draw_flow_fields, draw_hue_flow, flow_to_hues
from vpog.draw.groups import Group, draw_directions, draw_group, group_of_batch, group_of_sample
from vpog.draw.matches import draw_correspondences, draw_dense_label, draw_label_check, draw_matching
from vpog.draw.patches import draw_classification, draw_labels, draw_patch_grid
from vpog.draw.poses import PosedMesh, draw_axes, draw_case, draw_pose, draw_poses

__all__ = [
    "Group",
    "PosedMesh",
    "color_wheel",
    "draw_axes",
    "draw_case",
    "draw_classification",
    "draw_correspondences",
    "draw_dense_label",
    "draw_dense_patch",
    "draw_directions",
    "draw_flow_fields",
    "draw_group",
    "draw_hue_flow",
    "draw_label_check",
    "draw_labels",
    "draw_matching",
    "draw_patch_grid",
    "draw_pose",
    "draw_poses",
    "flow_to_hues",
    "group_of_batch",
    "group_of_sample",
]
