"""Folders of recordings: calibrations, SLEAP sessions, replicAnt sets."""

from pathlib import Path

import numpy as np

from posecore.data.video import video_length
from posecore.doctor import Finding, from_error
from posecore.errors import InputError
from smil_regressor.calibration import RigCamera, read_calibration
from smil_regressor.data.converters.replicant_files import list_samples, read_labels, read_picture_size
from smil_regressor.data.converters.session import Session, find_sessions
from smil_regressor.data.converters.session_rig import check_session
from smil_regressor.data.converters.tracks import MOST_SEEN, Tracks, read_points3d, read_tracks

POOR_PX = 5.0
"""A trusted camera whose points are farther from the others' is worth a bundle adjustment."""
ODD_FOV_DEG = (5.0, 150.0)


def check_calibration(path: Path) -> list[Finding]:
    """Numbers of a calibration.toml, and what they say about each lens."""
    cameras = read_calibration(path)
    names = ", ".join(camera.name for camera in cameras)
    findings = [Finding("ok", str(path), f"{len(cameras)} cameras: {names}")]
    for index, camera in enumerate(cameras):
        findings += _lens(path, camera)
        for other in cameras[:index]:
            if np.allclose(camera.K, other.K) and np.allclose(camera.cam_from_world, other.cam_from_world):
                text = f"identical parameters to {other.name}: two cameras cannot be in one place"
                remedy = "check the session folder to see which one is wrong; recalibrate it"
                findings.append(Finding("error", f"{path}: {camera.name}", text, remedy))
    return findings


def check_sessions(folder: Path) -> list[Finding]:
    """Every session in a folder: files, tracks, and whether the cameras agree with each other."""
    findings: list[Finding] = []
    for session in find_sessions(folder):
        try:
            findings += _session(session)
        except InputError as error:
            findings += from_error(session.folder, error)
    return findings


def check_replicant(folder: Path) -> list[Finding]:
    """The first sample of a replicAnt set, and which files the set has."""
    samples = list_samples(folder)
    cameras = sorted({view.camera for views in samples for view in views} - {""})
    masks = sum(view.find("ID") is not None for views in samples for view in views)
    pictures = sum(view.find() is not None for views in samples for view in views)
    total = sum(len(views) for views in samples)
    seen = f"cameras {', '.join(cameras)}" if cameras else "one camera"
    text = f"replicAnt set: {len(samples)} samples, {seen}, {masks} of {total} pictures have masks"
    findings = [Finding("ok", str(folder), text)]
    if pictures < total:
        findings.append(Finding("error", str(folder), f"{total - pictures} pictures are missing", "copy the set again"))
    size = read_picture_size(folder)
    labels = next((found for views in samples for v in views if (found := read_labels(v.json, size or (1, 1)))), None)
    if labels is None:
        findings.append(Finding("error", str(folder), "the animal is in none of the pictures"))
    elif labels.quaternions_xyzw is None:
        text = "an old set with positions only: no joint rotations to learn from"
        findings.append(Finding("warning", str(folder), text, "keypoint losses still work"))
    elif labels.betas is not None:
        text = f"{len(labels.betas)} shape coefficients; they are used only with a model that has as many"
        findings.append(Finding("ok", str(folder), text))
    return findings


def _lens(path: Path, camera: RigCamera) -> list[Finding]:
    subject = f"{path}: {camera.name}"
    width, height = camera.size_wh
    findings = []
    fov = float(np.degrees(2 * np.arctan(height / (2 * camera.K[1, 1]))))
    if not ODD_FOV_DEG[0] < fov < ODD_FOV_DEG[1]:
        text = f"a vertical field of view of {fov:.1f} degrees is odd (focal length {camera.K[1, 1]:.0f} px)"
        findings.append(Finding("warning", subject, text, "the unit of `matrix` is pixels of a picture of `size`"))
    if not (0 < camera.K[0, 2] < width and 0 < camera.K[1, 2] < height):
        text = f"the principal point {camera.K[:2, 2].round(1).tolist()} lies outside the {width}x{height} picture"
        findings.append(Finding("warning", subject, text, "are matrix and size of the same resolution?"))
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 21), np.linspace(0, height - 1, 21)), -1)
    unreachable = np.isnan(camera.undistort_points(grid)[..., 0]).mean()
    if unreachable > 0:
        text = (
            f"the distortion has no inverse in {unreachable:.0%} of the picture (its corners); points there are hidden"
        )
        findings.append(Finding("warning", subject, text, "calibrate with the board in the corners, or with k2 and k3"))
    return findings


def _session(session: Session) -> list[Finding]:
    subject = str(session.folder)
    names = ", ".join(camera.name for camera in session.cameras)
    findings = [Finding("ok", subject, f"session of {len(session.cameras)} cameras: {names}")]
    tracks = {camera.name: read_tracks(camera.tracks) for camera in session.cameras}
    for camera in session.cameras:
        findings += _tracks(f"{subject}: {camera.name}", tracks[camera.name], video_length(camera.video))
    nodes = {one.node_names for one in tracks.values()}
    if len(nodes) > 1:
        findings.append(Finding("error", subject, "the cameras have different nodes", "export all from one project"))
    findings += _points3d(session, tracks)
    findings += _rig(session)
    return findings


def _tracks(subject: str, tracks: Tracks, frames: int) -> list[Finding]:
    known = np.isfinite(tracks.points_px).all(-1)
    share, count = known.mean(), len(tracks.points_px)
    text = f"{len(tracks.node_names)} nodes, {count} of {frames} frames, {share:.0%} of the points labelled"
    findings = [Finding("ok", subject, text)]
    if count > frames:
        text = f"{tracks.path.name} has {count} frames, the video {frames}"
        findings.append(Finding("error", subject, text, "use the video that was tracked, not a cut or re-encoded one"))
    if len(tracks.track_names) > 1:
        text = f"{len(tracks.track_names)} tracks: {', '.join(tracks.track_names)}"
        findings.append(Finding("warning", subject, text, f"choose one with --track NAME or --track {MOST_SEEN}"))
    return findings


def _points3d(session: Session, tracks: dict[str, Tracks]) -> list[Finding]:
    subject = str(session.folder)
    if session.points3d is None:
        remedy = "smil data triangulate makes it; without it only 2D losses are used"
        return [Finding("warning", subject, "no points3d.h5", remedy)]
    points = read_points3d(session.points3d)
    nodes = {len(one.node_names) for one in tracks.values()}
    if points.shape[2] not in nodes:
        text = f"{points.shape[2]} nodes, but the 2D tracks have {sorted(nodes)}"
        return [Finding("error", str(session.points3d), text, "triangulate the same project again")]
    share = np.isfinite(points).all(-1).mean()
    return [Finding("ok", str(session.points3d), f"{len(points)} frames, {share:.0%} of the points known")]


def _rig(session: Session) -> list[Finding]:
    subject = str(session.folder)
    if session.calibration is None:
        return [Finding("warning", subject, "no calibration.toml: 2D supervision only", "calibrate with Anipose")]
    findings: list[Finding] = []
    lost = [camera.name for camera in session.cameras if session.rig_camera(camera.name) is None]
    if lost:
        known = ", ".join(camera.name for camera in session.calibration)
        text = f"cameras {', '.join(lost)} are not in calibration.toml, which has {known}"
        findings.append(Finding("warning", subject, text, "names must be equal; else these views get 2D losses only"))
    report = check_session(session, MOST_SEEN)
    if report is None:
        return findings
    for camera in report.cameras:
        remedy = f"recalibrate it, or convert with --exclude-cameras {camera.name} or --exclude-bad"
        if camera.reasons:
            findings.append(Finding("error", f"{subject}: {camera.name}", "; ".join(camera.reasons), remedy))
        elif camera.leave_one_out_px > POOR_PX:
            text = f"its points lie {camera.leave_one_out_px:.1f} px from where the other cameras put them"
            findings.append(
                Finding("warning", f"{subject}: {camera.name}", text, "smil data refine-cameras may halve it")
            )
    good = [pair for pair in report.pairs if not set(pair.names) & set(report.bad_cameras)]
    findings += [
        Finding("ok", f"{subject}: {' + '.join(pair.names)}", f"two-view residual {pair.residual_px:.1f} px")
        for pair in good
    ]
    return findings
