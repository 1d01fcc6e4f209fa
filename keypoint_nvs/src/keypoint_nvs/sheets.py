"""Pictures for the training log: what the autoencoder keeps, novel views beside the true ones, tokens on the views."""

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.batch import ViewBatch
from keypoint_nvs.draw.canvas import to_picture
from keypoint_nvs.draw.maps import map_sheet
from keypoint_nvs.draw.tokens import token_sheet
from keypoint_nvs.draw.views import view_sheet
from keypoint_nvs.losses.multiview import positions_of_maps
from keypoint_nvs.model.records import AutoencoderOutput, KeypointOutput
from keypoint_nvs.model.system import KeypointNvsNetwork, StepOutput
from keypoint_nvs.model.zero123plus import Zero123Plus
from keypoint_nvs.scaling import unscale_image
from keypoint_nvs.step_views import keypoint_pictures
from posecore.draw import tile

Picture = UInt8[np.ndarray, "h w 3"]


def batch_figures(
    network: KeypointNvsNetwork, batch: ViewBatch, output: StepOutput, config: KeypointNvsConfig
) -> dict[str, Picture]:
    """What this stage has to show of a batch."""
    if output.autoencoder is not None:
        return {"reconstruction": _reconstructions(output.autoencoder)}
    figures = {}
    if config.nvs is not None and network.zero123 is not None:
        figures["views"] = _novel_views(network.zero123, batch, config)
    if output.keypoints is not None and config.keypoints is not None:
        pictures = keypoint_pictures(batch, config.keypoints)
        figures["keypoints"] = tile([_tokens(pictures[i], output.keypoints, i) for i in range(len(batch))], columns=1)
        figures["maps"] = map_sheet(
            _pictures(pictures[0]), _array(output.keypoints.maps[0]), names=_names(output.keypoints, 0)
        )
    return figures


def _reconstructions(output: AutoencoderOutput) -> Picture:
    rows = {
        name: _pictures(unscale_image(values[:8].float()) * 0.5 + 0.5)
        for name, values in (("truth", output.target), ("ours", output.reconstruction))
    }
    return view_sheet(None, rows)


def _novel_views(model: Zero123Plus, batch: ViewBatch, config: KeypointNvsConfig) -> Picture:
    assert batch.cond_imgs is not None  # checked with the configuration: views need multiview data
    options = config.inference
    found = model.sample(batch.cond_imgs, options.sampling_steps, options.guidance, batch.stored.seed)
    sheets = [
        view_sheet(_pictures(cond[None])[0], {"truth": _pictures(truth), "ours": _pictures(ours)})
        for cond, truth, ours in zip(batch.cond_imgs, batch.target_imgs, found, strict=True)
    ]
    return tile(sheets, columns=1)


def _tokens(pictures: Tensor, output: KeypointOutput, index: int) -> Picture:
    """The tokens that were chosen for this object."""
    maps = output.maps[index].float()
    side = maps.shape[-1]
    scale = pictures.shape[-1] / side
    places = (positions_of_maps(maps, 3.0 * side / 32) + 0.5) * scale - 0.5
    heights = maps.amax((-2, -1))
    trust = heights / heights.max().clamp_min(1e-12)
    return token_sheet(_pictures(pictures), _array(places), _array(trust), names=_names(output, index))


def _names(output: KeypointOutput, index: int) -> list[str]:
    return [f"token {token}" for token in output.selected[index].tolist()]


def _pictures(images: Tensor) -> list[Picture]:
    return [to_picture(image) for image in _array(images)]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().float().numpy()
