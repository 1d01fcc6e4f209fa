"""Rigs of calibrated cameras: reading, checking, triangulating with and refining them."""

from smil_regressor.calibration.check import check_rig
from smil_regressor.calibration.refinement import RefinedRig, refine_cameras
from smil_regressor.calibration.report import CameraReport, PairReport, RigReport
from smil_regressor.calibration.rig import Maps, RigCamera, read_calibration, undistort_image, write_calibration
from smil_regressor.calibration.triangulation import Triangulated, dlt, ransac_triangulate, reprojection_errors

__all__ = [
    "CameraReport",
    "Maps",
    "PairReport",
    "RefinedRig",
    "RigCamera",
    "RigReport",
    "Triangulated",
    "check_rig",
    "dlt",
    "ransac_triangulate",
    "read_calibration",
    "refine_cameras",
    "reprojection_errors",
    "undistort_image",
    "write_calibration",
]
