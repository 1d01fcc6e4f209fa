"""From a configuration to the networks of a run: with real weights, with those of an earlier run, or with random ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.config.stages import KeypointsConfig
from keypoint_nvs.losses.balance import LossBalance
from keypoint_nvs.model.architectures import ARCHITECTURES, PROMPT_LENGTH, architecture, build_text
from keypoint_nvs.model.autoencoder_training import AutoencoderTraining, rescale_latents
from keypoint_nvs.model.conditioning import initial_ramp
from keypoint_nvs.model.description import ModelDescription
from keypoint_nvs.model.folder_description import describe_folder
from keypoint_nvs.model.folder_files import INDEX
from keypoint_nvs.model.folders import embed_empty_prompt, read_folder
from keypoint_nvs.model.keypoint_model import KeypointModel, WarpRange
from keypoint_nvs.model.latent_scaling import LatentScaling, scaling_of_views
from keypoint_nvs.model.running_votes import RunningVotes
from keypoint_nvs.model.schedule import alphas_cumprod
from keypoint_nvs.model.system import KeypointNvsNetwork
from keypoint_nvs.model.token_choice import ChoiceRule
from keypoint_nvs.model.trainable import merge_lora, set_trainable
from keypoint_nvs.model.unet_weights import load_unet_weights
from keypoint_nvs.model.vision_folder import describe_vision, read_vision
from keypoint_nvs.model.zero123plus import Zero123Plus
from keypoint_nvs.rig import rig_of
from keypoint_nvs.stages import loss_weights
from posecore.errors import InputError
from posecore.training.checkpoints import Checkpoint, load_checkpoint
from posecore.weights import load_weights

SYSTEM = "keypoint_nvs"


@dataclass(frozen=True)
class Beginning:
    """What a run's networks are, and where their first weights come from."""

    main: ModelDescription
    """Of novel views, or of the keypoints alone."""
    keypoints: ModelDescription | None = None
    """Of the keypoints' own, frozen networks."""
    folder: Path | None = None
    """In the layout of diffusers: the main model's weights."""
    run: Path | None = None
    """Checkpoint of an earlier stage: as folder."""
    vision: Path | None = None
    unet: Path | None = None
    keypoints_folder: Path | None = None
    is_random: bool = False
    """New random weights, and the empty prompt of a random text encoder."""

    def description(self) -> dict[str, Any]:
        """For checkpoints: all that rebuilds the networks; weights come from the checkpoint."""
        return {
            "main": self.main.to_dict(),
            "keypoints": None if self.keypoints is None else self.keypoints.to_dict(),
        }

    @classmethod
    def from_description(cls, values: Mapping[str, Any], keypoints_folder: Path | None = None) -> "Beginning":
        """`keypoints_folder`: of the keypoints' own weights, where the checkpoint has none."""
        main, own = ModelDescription.from_dict(values["main"]), values["keypoints"]
        described = None if own is None else ModelDescription.from_dict(own)
        return cls(main, described, keypoints_folder=keypoints_folder)


def find_beginning(config: KeypointNvsConfig) -> Beginning:
    """Look into the folders and runs that a configuration begins with; nothing heavy is loaded.

    Raises:
        InputError: One of them does not fit what is to be trained.
    """
    model = config.model
    if model.weights is None:
        beginning = Beginning(ModelDescription.of_architecture(architecture(model.architecture)), is_random=True)
    elif (model.weights / INDEX).is_file():
        beginning = Beginning(ModelDescription.of_folder(describe_folder(model.weights)), folder=model.weights)
    else:
        beginning = _of_run(model.weights)
    if model.vision_weights is not None:
        settings = describe_vision(model.vision_weights)
        main = replace(beginning.main, kind="zero123plus", vision=settings, vision_px=settings["image_size"])
        beginning = replace(beginning, main=main, vision=model.vision_weights)
    if model.unet_weights is not None:
        beginning = replace(beginning, unet=model.unet_weights)
    if config.keypoints is not None and config.keypoints.weights is not None:
        own = ModelDescription.of_folder(describe_folder(config.keypoints.weights))
        beginning = replace(beginning, keypoints=own, keypoints_folder=config.keypoints.weights)
    _check_fit(config, beginning)
    return beginning


def build_network(config: KeypointNvsConfig, beginning: Beginning) -> KeypointNvsNetwork:
    """The networks of a run, with what is trained marked so. Random numbers come from torch's global generator."""
    main = beginning.main
    unet, vae, vision, prompt, ramp = _parts(beginning)
    if config.autoencoder is not None:
        network = KeypointNvsNetwork(autoencoder=AutoencoderTraining(vae))
        _take(network, beginning)
        return network
    zero123 = None
    if main.kind == "zero123plus":
        zero123 = Zero123Plus(
            unet,
            vae,
            vision,
            prompt,
            ramp,
            rig_of(config.model.rig),
            view_px=config.model.view_px,
            autoencoder_px=main.cond_px,
            vision_px=main.vision_px or main.cond_px,
            latent_shift=main.latent_shift,
            latent_scale=main.latent_scale,
        )
    keypoints = None if config.keypoints is None else _keypoints(config.keypoints, beginning, unet, vae, zero123)
    network = KeypointNvsNetwork(
        zero123=zero123,
        keypoints=keypoints,
        balance=LossBalance(tuple(loss_weights(config)), config.loss.balance, config.loss.ema_decay),
        votes=None
        if config.keypoints is None
        else RunningVotes(config.keypoints.num_tokens, config.keypoints.vote_samples),
    )
    _take(network, beginning)
    if beginning.unet is not None:
        load_unet_weights(unet, beginning.unet)
    _mark_trained(network, config)
    if config.model.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return network


def _parts(beginning: Beginning) -> tuple[Any, Any, Any, Tensor, Tensor]:
    """UNet, autoencoder, vision encoder, empty prompt and ramp of the main model."""
    main = beginning.main
    if beginning.folder is not None:
        loaded = read_folder(beginning.folder, conditioning=main.kind == "zero123plus")
        vision = loaded.vision if beginning.vision is None else read_vision(beginning.vision)
        prompt = loaded.prompt_embeds
        if prompt is None:
            prompt = torch.zeros(1, PROMPT_LENGTH, loaded.unet.config.cross_attention_dim)
        return loaded.unet, loaded.vae, vision, prompt, initial_ramp() if loaded.ramp is None else loaded.ramp
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = UNet2DConditionModel.from_config(main.unet)
    vae = AutoencoderKL.from_config(main.vae)
    vision = None if main.vision is None else CLIPVisionModelWithProjection(CLIPVisionConfig(**main.vision))
    if beginning.vision is not None:
        vision = read_vision(beginning.vision)
    if beginning.is_random:
        prompt = embed_empty_prompt(build_text(architecture(main.name)))
    else:
        prompt = torch.zeros(1, PROMPT_LENGTH, unet.config.cross_attention_dim)  # weights that are loaded bring it
    return unet, vae, vision, prompt, initial_ramp()


def _keypoints(
    config: KeypointsConfig, beginning: Beginning, unet: Any, vae: Any, zero123: Zero123Plus | None
) -> KeypointModel:
    described, is_shared = beginning.main, True
    if beginning.keypoints is not None:
        described, is_shared = beginning.keypoints, False
        unet, vae = _own_networks(beginning)
    scaling: Any
    if is_shared and zero123 is not None:
        model = zero123

        def scaling() -> LatentScaling:
            return scaling_of_views(model)

    elif described.kind == "zero123plus":
        factor = vae.config.scaling_factor
        scaling = LatentScaling.zero123plus(factor, described.latent_shift, described.latent_scale)
    else:
        scaling = LatentScaling(vae.config.scaling_factor)
    return KeypointModel(
        unet,
        vae,
        scaling,
        alphas_cumprod(described.beta_schedule),  # type: ignore[arg-type]
        shared=is_shared and zero123 is not None,
        num_tokens=config.num_tokens,
        layers=config.layers,
        map_px=config.map_px,
        image_px=config.image_px,
        noise_t=config.noise_t,
        choice=ChoiceRule(
            config.num_keypoints, config.candidates, config.sigma, config.selection, config.fps_on, config.subjects
        ),
        warps=WarpRange(config.warp.angle_deg, config.warp.scale, config.warp.translate),
        train_unet=config.train_unet,
        save_networks=config.save_backbone,
    )


def _own_networks(beginning: Beginning) -> tuple[Any, Any]:
    if beginning.keypoints_folder is not None:
        loaded = read_folder(beginning.keypoints_folder, conditioning=False)
        return loaded.unet, loaded.vae
    from diffusers import AutoencoderKL, UNet2DConditionModel

    assert beginning.keypoints is not None
    own = beginning.keypoints
    return UNet2DConditionModel.from_config(own.unet), AutoencoderKL.from_config(own.vae)


def _mark_trained(network: KeypointNvsNetwork, config: KeypointNvsConfig) -> None:
    """Nothing is trained but what the configuration says; tokens always are."""
    zero123, keypoints = network.zero123, network.keypoints
    if zero123 is not None:
        zero123.requires_grad_(False)
        if config.nvs is not None:
            lora = config.nvs.lora
            set_trainable(
                zero123.unet,
                config.nvs.train,
                lora_rank=lora.rank,
                lora_alpha=lora.alpha,
                lora_targets=lora.targets,
            )
            zero123.ramp.requires_grad_(config.nvs.train_ramp)
        elif config.keypoints is not None and config.keypoints.train_unet:
            zero123.unet.requires_grad_(True)
    if keypoints is not None:
        keypoints.tokens.requires_grad_(True)


def _of_run(path: Path) -> Beginning:
    stored = load_checkpoint(path, SYSTEM)
    beginning = Beginning.from_description(stored.config["parts"])
    is_autoencoder = stored.config["config"].get("autoencoder") is not None
    if is_autoencoder and beginning.main.name not in ARCHITECTURES:
        raise InputError(
            f"model.weights: {path}: is an autoencoder's, begun from {beginning.main.name}; only those of the architectures "
            f"({', '.join(ARCHITECTURES)}) can be gone on with, for the other parts are new there"
        )
    return Beginning(beginning.main, run=stored.folder, is_random=is_autoencoder)


def _take(network: KeypointNvsNetwork, beginning: Beginning) -> None:
    """Weights of an earlier stage, as far as this network has its parts."""
    if beginning.run is None:
        return
    stored = load_checkpoint(beginning.run, SYSTEM)
    source = rebuild_network(stored)[1]
    own_vae = _autoencoder_of(network)
    if source.autoencoder is not None:
        if network.autoencoder is None:
            rescale_latents(source.autoencoder.vae, *source.autoencoder.latents.mean_and_deviation())
        load_weights(own_vae, source.autoencoder.vae.state_dict(), f"{stored.folder}: autoencoder")
        return
    if source.zero123 is not None and network.zero123 is not None:
        merge_lora(source.zero123.unet)
        load_weights(network.zero123, source.zero123.state_dict(), f"{stored.folder}: zero123")
    elif source.zero123 is not None and network.autoencoder is not None:
        load_weights(own_vae, source.zero123.vae.state_dict(), f"{stored.folder}: autoencoder")
    if source.keypoints is not None and network.keypoints is not None:
        _take_tokens(network, source, str(stored.folder))


def _take_tokens(network: KeypointNvsNetwork, source: KeypointNvsNetwork, folder: str) -> None:
    assert source.keypoints is not None
    assert network.keypoints is not None
    theirs, ours = source.keypoints.tokens, network.keypoints.tokens
    if theirs.shape != ours.shape:
        raise InputError(
            f"{folder}: has {theirs.shape[1]} tokens of width {theirs.shape[2]}, this configuration {ours.shape[1]} of width "
            f"{ours.shape[2]}; set keypoints.num_tokens to {theirs.shape[1]}, or begin with a run without tokens"
        )
    load_weights(network.keypoints, source.keypoints.state_dict(), f"{folder}: keypoints")
    if source.votes is not None and network.votes is not None:
        network.votes.load_state_dict(source.votes.state_dict())


def rebuild_network(stored: Checkpoint) -> tuple[KeypointNvsConfig, KeypointNvsNetwork]:
    """A run's configuration and network, with the checkpoint's weights.

    Raises:
        InputError: The checkpoint is of another layout; or its backbone was left out and is not where it was.
    """
    config = KeypointNvsConfig.from_dict(stored.config["config"], str(stored.folder))
    folder = None
    if config.keypoints is not None and not config.keypoints.save_backbone:
        folder = config.keypoints.weights
        if folder is None or not folder.is_dir():
            raise InputError(
                f"{stored.folder}: was saved without its backbone (keypoints.save_backbone false), which is no longer in "
                f"{folder}; put it there again"
            )
    network = build_network(config, Beginning.from_description(stored.config["parts"], folder))
    stored.load_into(network)
    return config, network


def _autoencoder_of(network: KeypointNvsNetwork) -> Any:
    if network.autoencoder is not None:
        return network.autoencoder.vae
    if network.zero123 is not None:
        return network.zero123.vae
    assert network.keypoints is not None
    return network.keypoints.vae


def _check_fit(config: KeypointNvsConfig, beginning: Beginning) -> None:
    main = beginning.main
    if config.nvs is None:
        return
    if main.kind != "zero123plus" or main.vision is None:
        raise InputError(
            f"nvs: {main.name} has no image encoder; begin with a folder of Zero123++, or name one in model.vision_weights"
        )
    if main.prediction_type != "v_prediction":
        raise InputError(
            f"model.weights: {main.name} predicts {main.prediction_type}; novel views need a model of v_prediction, as "
            "Stable Diffusion 2.1 at 768 px or Zero123++"
        )
