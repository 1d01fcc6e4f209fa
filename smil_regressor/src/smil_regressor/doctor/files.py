"""Single files: body models, data files, configurations, checkpoints."""

from pathlib import Path

import h5py

from posecore.bodymodel import BodyModel, read_model
from posecore.doctor import Finding, from_error
from posecore.errors import InputError
from smil_regressor.data.converters.tracks import read_points3d, read_tracks


def check_model(path: Path) -> list[Finding]:
    """A SMAL/SMIL body model."""
    body = read_model(path)
    vertices = len(body.template)
    text = f"body model: {vertices} vertices, {len(body.faces)} faces, {body.num_joints} joints, {body.num_betas} betas"
    findings = [Finding("ok", str(path), text)]
    if body.has_static_joints:
        findings.append(Finding("ok", str(path), "static joints: the stored ones are used, shape does not move them"))
    if body.scaledirs is None or body.transdirs is None:
        text = "no limb components (scaledirs, transdirs)"
        remedy = "use scale_trans_beta.mode ignore, or separate with model.separate_limbs joints"
        findings.append(Finding("warning", str(path), text, remedy))
    if body.joint_names == tuple(f"joint_{index}" for index in range(body.num_joints)):
        text = "no joint names (J_names): joints cannot be matched by name"
        findings.append(Finding("warning", str(path), text, "give a joint lookup table with joint_0, joint_1, ..."))
    return findings


def check_hdf5(path: Path) -> list[Finding]:
    """A data file of either layout, or one of the HDF5 files of a session."""
    try:
        with h5py.File(path) as file:
            names = set(file)
    except OSError as error:
        return [Finding("error", str(path), f"not a whole HDF5 file ({error})", "copy it or convert again")]
    if {"tracks", "node_names"} <= names:
        tracks = read_tracks(path)
        text = f"SLEAP analysis: {len(tracks.points_px)} frames, tracks {', '.join(tracks.track_names)}"
        return [Finding("ok", str(path), text, "check the folder of its session")]
    if "tracks" in names:
        points = read_points3d(path)
        return [Finding("ok", str(path), f"3D points: {points.shape[0]} frames, {points.shape[2]} nodes")]
    return _data_file(path)


def check_config(path: Path) -> list[Finding]:
    """A training configuration: fields, files it names, and whether those fit together."""
    from posecore.config import load_config
    from smil_regressor.config import SmilConfig

    config = load_config(SmilConfig, path)
    findings = [Finding("ok", str(path), f"configuration for mode {config.mode}, no unknown or impossible field")]
    body, missing = _configured_model(path, config.smal_model.smal_file)
    findings += missing
    if config.dataset.data_path is None and not config.multi_dataset.enabled:
        remedy = "give it in the file or as --data-path"
        findings.append(Finding("warning", str(path), "dataset.data_path is not set", remedy))
    paths = {"dataset.data_path": config.dataset.data_path} | {
        f"multi_dataset.datasets.{d.name}": d.path for d in config.multi_dataset.datasets if d.enabled
    }
    for field, data in paths.items():
        if data is not None:
            findings += _configured_data(path, field, data, body)
    given = config.loss_curriculum.model_fields_set
    if "base_weights" in given and "curriculum_stages" not in given:
        text = "base_weights are given, but the default curriculum_stages still change them from epoch 1 on"
        findings.append(Finding("warning", str(path), text, 'set "curriculum_stages": {} to keep them'))
    return findings


def check_checkpoint(path: Path) -> list[Finding]:
    """A run folder, a checkpoint folder, or weights of the published model (.pth)."""
    from posecore.training.checkpoints import all_checkpoints, damage, load_checkpoint
    from smil_regressor.model.original import describe_original, read_original

    if path.suffix in (".pth", ".pt", ".ckpt"):
        layout = describe_original(read_original(path))
        kind = f"multi-view, {layout.max_views} views" if layout.is_multi_view else "single-view"
        head = f"decoder head of width {layout.hidden_dim}" if layout.has_decoder else "MLP head"
        return [Finding("ok", str(path), f"published weights: {kind}, {head}, {layout.num_betas} betas")]
    findings = [
        Finding("error", str(folder), wrong, "remove it; training resumes from the newest whole one")
        for folder in all_checkpoints(path / "checkpoints")
        if (wrong := damage(folder)) is not None
    ]
    checkpoint = load_checkpoint(path, "smil")
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in checkpoint.metrics.items() if value is not None)
    text = f"step {checkpoint.step}, epoch {checkpoint.epoch}, {metrics or 'no metrics yet'}"
    return [Finding("ok", str(checkpoint.folder), f"checkpoint: {text}"), *findings]


def _data_file(path: Path) -> list[Finding]:
    from smil_regressor.data.inspect import describe

    facts = describe(path)
    text = f"{facts['kind']} data ({facts['layout']} layout): {facts['samples']} samples, {facts['joints']} joints"
    findings = [Finding("ok", str(path), f"{text}, {len(facts['sessions'])} sessions")]
    labels = facts["labels"]
    absent = sorted(name for name, share in labels.items() if share == 0)
    if absent:
        findings.append(Finding("ok", str(path), f"labels that no sample has: {', '.join(absent)}"))
    if labels["keypoint_2d"] == 0:
        findings.append(Finding("error", str(path), "no visible 2D keypoint", "lower --confidence-threshold"))
    if facts["kind"] == "multi-view" and labels["cameras"] < 1:
        text = f"{labels['cameras']:.0%} of the views have a camera"
        remedy = "training with training.use_gt_camera_init needs calibrated views"
        findings.append(Finding("warning", str(path), text, remedy))
    if facts["kind"] == "multi-view" and facts["world_scale_m"] is None and labels["keypoint_3d"] > 0:
        text = "metadata.world_scale is missing: 3D errors come out in the file's own unit"
        findings.append(Finding("warning", str(path), text, "convert with --world-scale (metres per unit)"))
    if len(facts["sessions"]) == 1:
        text = "one session: dataset.split_by session cannot hold any of it out"
        remedy = "set dataset.split_by block for video, frame for pictures that are independent of each other"
        findings.append(Finding("warning", str(path), text, remedy))
    return findings


def _configured_model(config: Path, file: Path | None) -> tuple[BodyModel | None, list[Finding]]:
    if file is None:
        return None, [Finding("ok", str(config), "no smal_model.smal_file: the procedural insect is used")]
    found = _find(config, file)
    if found is None:
        remedy = "set smal_model.smal_file; paths are relative to the configuration, then to the working folder"
        return None, [Finding("error", str(config), f"smal_model.smal_file: {file} does not exist", remedy)]
    try:
        return read_model(found), check_model(found)
    except InputError as error:
        return None, from_error(found, error)


def _configured_data(config: Path, field: str, file: Path, body: BodyModel | None) -> list[Finding]:
    from smil_regressor.data.inspect import describe

    found = _find(config, file)
    if found is None:
        return [Finding("error", str(config), f"{field}: {file} does not exist", "smil data convert or synth makes it")]
    try:
        findings, facts = check_hdf5(found), describe(found)
    except InputError as error:
        return from_error(found, error)
    if body is not None and facts["joints"] != body.num_joints:
        text = f"{facts['joints']} joints, but the model of {config.name} has {body.num_joints}"
        findings.append(Finding("error", str(found), text, "convert with the same --smal-file"))
    if body is not None and facts["betas"] != body.num_betas:
        text = f"{facts['betas']} betas, but the model of {config.name} has {body.num_betas}"
        findings.append(Finding("error", str(found), text, "convert with the same --smal-file"))
    return findings


def _find(config: Path, file: Path) -> Path | None:
    return next((path for path in (config.parent / file, file) if path.is_file()), None)
