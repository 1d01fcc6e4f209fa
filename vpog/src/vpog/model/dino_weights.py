"""DINOv2 encoders: built by timm, with weights of a local file, of the hub, or random ones."""

from pathlib import Path
from typing import Any

from posecore.errors import InputError
from posecore.weights import load_weights
from vpog.config.model import DinoEncoderConfig
from vpog.model.dino_encoder import DinoEncoder
from vpog.model.weight_files import read_tensors

HUB = "hub"


def create_dino(config: DinoEncoderConfig, img_size: int, patch_size: int, load: bool) -> DinoEncoder:
    """The encoder for pictures of `img_size`; position embeddings of other sizes are interpolated once, here.

    Raises:
        InputError: A name that timm does not know or that is no plain ViT, another patch size, weights that are missing
            or do not fit.
    """
    from_hub = load and config.weights == HUB
    trunk = _create(config.name, img_size, from_hub)
    _check(trunk, config.name, patch_size)
    if load and config.weights is not None and not from_hub:
        _load_file(trunk, Path(config.weights).expanduser())
    published = trunk.pretrained_cfg
    return DinoEncoder(trunk, trunk.embed_dim, patch_size, tuple(published["mean"]), tuple(published["std"]))


def _create(name: str, img_size: int, from_hub: bool) -> Any:
    import timm

    if not timm.is_model(name.split(".")[0]):
        close = ", ".join(timm.list_models("*dinov2*"))
        raise InputError(f"model.encoder.name {name}: timm {timm.__version__} has no such model; it has {close}")
    try:
        return timm.create_model(name, pretrained=from_hub, img_size=img_size, num_classes=0)
    except Exception as error:  # the hub's client and timm raise classes of many libraries
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"model.encoder.name {name}, model.encoder.weights {HUB if from_hub else 'null'}: {first}"
            + ("; without access to the hub, name a local file instead" if from_hub else "")
        ) from error


def _check(trunk: Any, name: str, patch_size: int) -> None:
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(trunk, VisionTransformer):
        raise InputError(f"model.encoder.name {name}: should be a plain ViT of timm, not a {type(trunk).__name__}")
    own = trunk.patch_embed.patch_size[0]
    if own != patch_size:
        raise InputError(f"model.patch_size {patch_size} should be {own}, that of model.encoder.name {name}")


def _load_file(trunk: Any, path: Path) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    tensors = read_tensors(path, "model.encoder.weights")
    try:
        fitted = checkpoint_filter_fn(tensors, trunk)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: does not have the layout of a ViT of timm or DINOv2: {error}") from error
    load_weights(trunk, {name: value for name, value in fitted.items() if name != "mask_token"}, str(path))
