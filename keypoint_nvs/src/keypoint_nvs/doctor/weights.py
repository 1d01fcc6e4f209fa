"""Folders of real weights, single state dicts of a UNet, runs of ours."""

from pathlib import Path

from keypoint_nvs.model.architectures import ARCHITECTURES, build_unet
from keypoint_nvs.model.folder_components import load_component
from keypoint_nvs.model.folder_description import FolderDescription, describe_folder
from keypoint_nvs.model.unet_weights import read_unet_weights
from posecore.doctor import Finding, from_error
from posecore.errors import InputError

LICENCES = {
    "zero123plus": "the released weights of v1.2 are CC BY-NC 4.0 (not for commercial use), those of v1.1 openrail",
    "stable-diffusion": "",
}
USES = {
    "zero123plus": "for model.weights; for keypoints alone Stable Diffusion 1.5 is known to be better",
    "stable-diffusion": "for keypoints.weights, or model.weights without nvs",
}


def check_folder(path: Path) -> list[Finding]:
    """A folder in the layout of diffusers: its settings, then each component, read whole, one after the other."""
    described = describe_folder(path)
    schedule = described.schedule
    text = f"{described.kind}, {schedule.prediction_type}, betas {schedule.beta_schedule}; {USES[described.kind]}"
    findings = [Finding("ok", str(path), text, LICENCES[described.kind])]
    for component in described.weights:
        findings += _component(described, component)
    return findings


def _component(described: FolderDescription, component: str) -> list[Finding]:
    file = described.weights[component]
    try:
        module = load_component(described.folder, component, file)
    except InputError as error:
        return from_error(file.path, error)
    count = sum(parameter.numel() for parameter in module.parameters()) / 1e6
    return [Finding("ok", str(file.path), f"{count:.1f} million parameters")]


def check_state_dict(path: Path) -> list[Finding]:
    """A UNet's tensors, and which family it belongs to."""
    import torch

    shapes = {name: tuple(tensor.shape) for name, tensor in read_unet_weights(path).items()}
    for arch in ARCHITECTURES.values():
        with torch.device("meta"):
            own = {name: tuple(tensor.shape) for name, tensor in build_unet(arch).state_dict().items()}
        if own == shapes:
            return [
                Finding(
                    "ok", str(path), f"a UNet as that of {arch.name}, {len(shapes)} tensors; for model.unet_weights"
                )
            ]
    text = f"a UNet of {len(shapes)} tensors, not as that of {', '.join(ARCHITECTURES)}"
    return [Finding("warning", str(path), text, "it fits model.unet_weights only beside a folder with the same UNet")]


def check_run(path: Path) -> list[Finding]:
    """It is whole, and its networks can be built."""
    import torch

    from keypoint_nvs.loading import load_network

    loaded = load_network(path, torch.device("cpu"))
    count = sum(p.numel() for p in loaded.network.parameters()) / 1e6
    text = f"stage {loaded.config.stage}, {count:.1f} million parameters"
    if loaded.network.keypoints is not None and loaded.config.keypoints is not None:
        tokens = loaded.network.keypoints.tokens.shape[1]
        text += f", {tokens} tokens of which {loaded.config.keypoints.num_keypoints} are kept"
    return [Finding("ok", str(loaded.folder), text)]
