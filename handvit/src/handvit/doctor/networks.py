"""Trained networks, and the image encoders that they begin with."""

from pathlib import Path

from handvit.config.model import BackboneConfig
from posecore.doctor import Finding


def check_checkpoint(path: Path) -> list[Finding]:
    """A run folder, a checkpoint's folder, its model.safetensors, or an export."""
    import torch

    from handvit.loading import load_network
    from posecore.training.checkpoints import all_checkpoints, damage, load_checkpoint

    findings = [
        Finding("error", str(folder), wrong, "remove it; training resumes from the newest whole one")
        for folder in all_checkpoints(path / "checkpoints")
        if (wrong := damage(folder)) is not None
    ]
    checkpoint = load_checkpoint(path, "handvit")
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in checkpoint.metrics.items() if value is not None)
    loaded = load_network(path, None, torch.device("cpu"))
    model = loaded.config.model
    hand = "stand-in" if loaded.facts.is_standin else "MANO"
    text = (
        f"stage {model.stage}, step {checkpoint.step}, {model.img_size} px, hand {hand}; {metrics or 'no metrics yet'}"
    )
    return [Finding("ok", str(checkpoint.folder), text), *findings]


def check_encoder(path: Path) -> list[Finding]:
    """A folder with config.json and weights, as the hub has them: everything is loaded once."""
    from handvit.model.architecture import layout_of, read_architecture
    from handvit.model.pretrained import create_trunk

    config = BackboneConfig(backbone_str=str(path))
    architecture = read_architecture(config)
    size = _stored_size(architecture)
    layout = layout_of(architecture, str(path), size)
    trunk = create_trunk(config, architecture, size, load_weights=True)
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    text = (
        f"image encoder {layout.kind}: {layout.num_layers} layers, width {layout.width}, tokens of {layout.stride} px, "
        f"{parameters / 1e6:.1f} M parameters"
    )
    remedy = f"set model.backbone.backbone_str to this folder; model.img_size must be a multiple of {layout.stride}"
    return [Finding("ok", str(path), text, remedy)]


def _stored_size(architecture: dict[str, object]) -> int:
    """Of the images that it was trained for; a folder that does not say it has transformers' default."""
    from handvit.model.architecture import transformers_config

    size = transformers_config(architecture, None).image_size
    return int(size if isinstance(size, int) else size[0])
