"""Keypoints, novel views and 3D keypoints of pictures, for notebooks and robots: arrays in, typed results out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from keypoint_nvs.config.inference import InferenceConfig
from keypoint_nvs.inference.ensemble import KeypointResult, keypoints_of_images
from keypoint_nvs.inference.points import Points, points_of_views
from keypoint_nvs.loading import LoadedNetwork, load_network
from keypoint_nvs.model.keypoint_model import KeypointModel
from keypoint_nvs.model.preprocessing import Preprocessor
from keypoint_nvs.model.zero123plus import Zero123Plus
from keypoint_nvs.rig import Rig, rig_of
from keypoint_nvs.scaling import composite
from posecore.devices import choose_device
from posecore.errors import InputError

Rgba = UInt8[np.ndarray, "4 h w"]


@dataclass(frozen=True)
class Keypoints:
    """Of one picture."""

    xy_px: Float32[np.ndarray, "k 2"]
    """Pixels of the picture that was given; centres at integers."""
    confidence: Float32[np.ndarray, " k"]
    """Height of the attention map at its peak, 0..1."""
    maps: Float32[np.ndarray, "k m m"]


@dataclass(frozen=True)
class ObjectResult:
    """Of one picture of one object."""

    keypoints: Keypoints
    """In the picture itself."""
    views: UInt8[np.ndarray, "v s s 3"]
    """Generated; their cameras are those of `rig`."""
    view_keypoints: tuple[Keypoints, ...]
    """In the generated views, pixels of these."""
    points_world: Float32[np.ndarray, "k 3"]
    """Triangulated: z up, the origin in the object's middle, the input camera at azimuth 0; the object's radius is 0.5."""
    counted: Bool[np.ndarray, " k"]
    """Points on which enough views agree."""
    reprojection_px: Float32[np.ndarray, "v k"]
    """Distances of the projected points from the views' keypoints."""
    rig: Rig


class Predictor:
    """A trained network, ready to be asked. Answers do not depend on what is asked together with them."""

    def __init__(self, loaded: LoadedNetwork, inference: InferenceConfig) -> None:
        self.loaded, self.inference, self.device = loaded, inference, loaded.device
        self.rig = rig_of(loaded.config.model.rig)
        self._tokens: Int64[Tensor, " k"] | None = None

    @classmethod
    def load(
        cls, checkpoint: Path | str, device: str = "auto", changes: Mapping[str, Any] | None = None
    ) -> "Predictor":
        """
        Args:
            checkpoint: A run folder (its best checkpoint), a checkpoint folder, or an export.
            changes: Fields of the configuration's `inference` that differ; None keeps a field as it is.

        Raises:
            InputError: No such checkpoint or device, or a value that cannot be.
        """
        loaded = load_network(Path(checkpoint), choose_device(device))
        values = loaded.config.inference.to_json_dict() | {k: v for k, v in (changes or {}).items() if v is not None}
        return cls(loaded, InferenceConfig.from_dict(values, "inference"))

    @property
    def has_views(self) -> bool:
        """Whether it can generate novel views."""
        return self.loaded.network.zero123 is not None

    @property
    def has_keypoints(self) -> bool:
        return self.loaded.network.keypoints is not None

    @property
    def tokens(self) -> Int64[Tensor, " k"]:
        """The kept tokens, most voted first.

        Raises:
            InputError: This run learnt no keypoints, or took no step.
        """
        if self._tokens is None:
            votes, config = self.loaded.network.votes, self.loaded.config.keypoints
            if votes is None or config is None:
                raise InputError(f"{self.loaded.folder}: learnt no keypoints (its config has keypoints null)")
            try:
                self._tokens = votes.kept(config.num_keypoints)
            except ValueError as error:
                raise InputError(f"{self.loaded.folder}: {error}; train it first") from None
        return self._tokens

    def use_tokens(self, tokens: Int64[Tensor, " k"]) -> None:
        """Keep these instead of the voted ones."""
        self._tokens = tokens.to(self.device)

    def keypoints(self, pictures: Sequence[Rgba]) -> list[Keypoints]:
        """Of square pictures of one size: red, green, blue and straight alpha."""
        images = self._composited(pictures)
        found = [self.keypoints_of(part) for part in torch.split(images, self.inference.batch_size)]
        return [k for result in found for k in _each(result)]

    def novel_views(self, pictures: Sequence[Rgba]) -> Float[Tensor, "b v 3 s s"]:
        """Views 0..1 of the objects in square pictures, on the background that the run was trained on."""
        prepared = self._preprocessor([_pil(p) for p in pictures], [f"picture {i}" for i in range(len(pictures))])
        moved = type(prepared)(prepared.autoencoder.to(self.device), prepared.vision.to(self.device))
        return self._zero123.sample(
            moved, self.inference.sampling_steps, self.inference.guidance, self._seeds(len(pictures))
        )

    def objects(self, pictures: Sequence[Rgba]) -> list[ObjectResult]:
        """Keypoints in the pictures, in generated views of their objects, and in space."""
        results = []
        for picture in pictures:
            views = self.novel_views([picture])[0]
            results.append(self._object(self.keypoints([picture])[0], views))
        return results

    def keypoints_of(self, images: Float[Tensor, "b 3 s s"]) -> KeypointResult:
        """Of pictures 0..1 on their background, all at once."""
        options = self.inference
        return keypoints_of_images(
            self._keypoint_model,
            images.to(self.device),
            self.tokens,
            options.warps,
            self._seeds(len(images)),
            options.map_px,
            options.peak,
            options.peak_radius,
        )

    def sample_views(
        self, cond_imgs: Float[Tensor, "b 3 h w"], samples: int | None = None
    ) -> Float[Tensor, "b v 3 s s"]:
        """Mean of some drawn views of input views 0..1 that are composited already."""
        count = self.inference.samples if samples is None else samples
        drawn = [
            self._zero123.sample(
                cond_imgs.to(self.device),
                self.inference.sampling_steps,
                self.inference.guidance,
                self._seeds(len(cond_imgs), offset=index),
            )
            for index in range(count)
        ]
        return torch.stack(drawn).mean(0)

    def batches(self, images: Float[Tensor, "n 3 s s"]) -> Iterator[KeypointResult]:
        """Keypoints of many pictures, some at a time."""
        for part in torch.split(images, self.inference.batch_size):
            yield self.keypoints_of(part)

    def _object(self, own: Keypoints, views: Float[Tensor, "v 3 s s"]) -> ObjectResult:
        found = self.keypoints_of(views)
        side = views.shape[-1]
        points = self._points(found, side)
        return ObjectResult(
            keypoints=own,
            views=view_pixels(views),
            view_keypoints=tuple(_each(found)),
            points_world=_array(points.points_world),
            counted=points.counted.cpu().numpy(),
            reprojection_px=_array(points.errors_px),
            rig=self.rig,
        )

    def _points(self, found: KeypointResult, side: int) -> Points:
        cameras = torch.from_numpy(self.rig.cam_from_world()).to(found.xy_px.device, torch.float64)
        K = torch.from_numpy(self.rig.K(side)).to(cameras)
        return points_of_views(
            found.xy_px,
            found.confidence,
            K.expand(len(cameras), 3, 3),
            cameras,
            side,
            robust_width=self.inference.triangulation_width,
            min_confidence=self.inference.min_confidence,
        )

    def _composited(self, pictures: Sequence[Rgba]) -> Float[Tensor, "b 3 s s"]:
        shapes = {picture.shape for picture in pictures}
        if len(shapes) > 1 or any(shape[1] != shape[2] for shape in shapes):
            raise InputError(f"pictures of shapes {sorted(shapes)}; they must be square and of one size")
        stacked = torch.from_numpy(np.stack(pictures)).to(self.device)
        return composite(stacked, self.loaded.config.data.background)

    def _seeds(self, count: int, offset: int = 0) -> Int64[Tensor, " b"]:
        """The same for all pictures, so that none depends on its neighbours."""
        return torch.full((count,), self.inference.seed * 1000 + offset, dtype=torch.int64, device=self.device)

    @property
    def _zero123(self) -> Zero123Plus:
        model = self.loaded.network.zero123
        if model is None:
            raise InputError(f"{self.loaded.folder}: cannot make novel views; it was not trained from Zero123++")
        return model

    @property
    def _keypoint_model(self) -> KeypointModel:
        model = self.loaded.network.keypoints
        if model is None:
            raise InputError(f"{self.loaded.folder}: learnt no keypoints (its config has keypoints null)")
        return model

    @property
    def _preprocessor(self) -> Preprocessor:
        return Preprocessor.of_sizes(self._zero123.autoencoder_px, self._zero123.vision_px)


def view_pixels(views: Float[Tensor, "v 3 s s"]) -> UInt8[np.ndarray, "v s s 3"]:
    """Views 0..1 as pictures."""
    pixels: np.ndarray = (views * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _each(result: KeypointResult) -> list[Keypoints]:
    return [
        Keypoints(_array(xy), _array(confidence), _array(maps))
        for xy, confidence, maps in zip(result.xy_px, result.confidence, result.maps, strict=True)
    ]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().to("cpu", torch.float32).numpy()


def _pil(picture: Rgba) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)), "RGBA")
