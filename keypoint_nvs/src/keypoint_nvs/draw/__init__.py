"""Pictures of views, tokens, maps and points; all are RGB uint8, points are x, y with pixel centres at integers."""

from keypoint_nvs.draw.canvas import AnyPicture, enlarged, enlarged_points, to_picture, token_colors
from keypoint_nvs.draw.cases import KeypointCase, keypoint_cases
from keypoint_nvs.draw.equivalents import equivalent_sheet
from keypoint_nvs.draw.grid import grid, legend, stacked
from keypoint_nvs.draw.maps import map_overlay, map_sheet
from keypoint_nvs.draw.sequences import write_gif, write_mp4
from keypoint_nvs.draw.space import SpacePoints, draw_space, space_sheet
from keypoint_nvs.draw.tokens import draw_tokens, token_sheet
from keypoint_nvs.draw.turntable import TurntableViews, turntable
from keypoint_nvs.draw.views import view_captions, view_sheet

__all__ = [
    "AnyPicture",
    "KeypointCase",
    "SpacePoints",
    "TurntableViews",
    "draw_space",
    "draw_tokens",
    "enlarged",
    "enlarged_points",
    "equivalent_sheet",
    "grid",
    "keypoint_cases",
    "legend",
    "map_overlay",
    "map_sheet",
    "space_sheet",
    "stacked",
    "to_picture",
    "token_colors",
    "token_sheet",
    "turntable",
    "view_captions",
    "view_sheet",
    "write_gif",
    "write_mp4",
]
