"""What training does to pictures: the camera that is drawn for a clip, the detector's error, and pixels."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[PositiveFloat, PositiveFloat]
Share = Annotated[float, Field(gt=0, lt=1)]
PixelSet = Literal["default", "none", "color_jitter_only", "with_gaussian_blur", "aggressive"]


class PixelOperation(Config):
    """What every operation on pixels has."""

    p: Probability = 0.3
    """Share of clips that get it; 0: off."""


class ColorJitter(PixelOperation):
    """Brightness, contrast, saturation, hue, in this order."""

    p: Probability = 0.5
    """Share of clips that get it; 0: off."""
    brightness: Probability = 0.2
    """The picture times 1 +- this."""
    contrast: Probability = 0.2
    """The distance from the frame's mean grey times 1 +- this."""
    saturation: Probability = 0.1
    """The distance from grey times 1 +- this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Turns of the colour circle, +- this."""


class GaussianNoise(PixelOperation):
    """One field of noise a clip, shared by its frames."""

    p: Probability = 0.5
    """Share of clips that get it; 0: off."""
    std: NonNegativeFloat = 0.03
    """Of pictures in 0..1."""


class GaussianBlur(PixelOperation):
    """A Gaussian of a drawn width."""

    p: Probability = 0.15
    """Share of clips that get it; 0: off."""
    kernel_size: PositiveInt = 5
    """Odd, pixels of the patch."""
    sigma: Range = (0.3, 1.0)
    """Pixels of the patch."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _odd("gaussian_blur.kernel_size", self.kernel_size)
        _ordered("gaussian_blur.sigma", self.sigma)
        return self


class Sharpness(PixelOperation):
    """Towards or away from the smoothed picture. (kornia's RandomSharpness(0.5) draws factors below 1: it only blurs.)"""

    strength: Probability = 0.5
    """The distance from the smoothed picture times 1 +- this."""


class Equalize(PixelOperation):
    """Flattens the histogram of each channel of a frame."""


class MotionBlur(PixelOperation):
    """A line of a drawn direction."""

    kernel_size: PositiveInt = 5
    """Odd, pixels of the patch."""
    angle_deg: NonNegativeFloat = 45.0
    """Direction of the line, +- this."""
    direction: Probability = 0.5
    """-1: weight at its end, 0: even, 1: at its beginning; drawn from +- this."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _odd("motion_blur.kernel_size", self.kernel_size)
        if self.kernel_size < 3:
            raise ValueError(f"motion_blur.kernel_size is {self.kernel_size}; a line needs at least 3 (p 0: no blur)")
        return self


class RandomErasing(PixelOperation):
    """A black rectangle of a drawn place, area and shape."""

    area: tuple[Share, Share] = (0.02, 0.1)
    """Its share of the patch."""
    aspect: Range = (0.3, 3.3)
    """Height over width, log-uniform."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _ordered("random_erasing.area", self.area)
        _ordered("random_erasing.aspect", self.aspect)
        return self


class PixelConfig(Config):
    """Changes of the patch's pixels, one draw a clip; an operation given here replaces the set's own."""

    set: PixelSet = "default"
    """default: color_jitter and gaussian_noise; none; color_jitter_only; with_gaussian_blur: default and gaussian_blur;
    aggressive: all seven."""
    color_jitter: ColorJitter | None = None
    """null: as the set has it. {"p": 0} switches it off, {} switches it on with its own defaults."""
    sharpness: Sharpness | None = None
    """null: as the set has it."""
    equalize: Equalize | None = None
    """null: as the set has it."""
    gaussian_blur: GaussianBlur | None = None
    """null: as the set has it."""
    motion_blur: MotionBlur | None = None
    """null: as the set has it."""
    gaussian_noise: GaussianNoise | None = None
    """null: as the set has it."""
    random_erasing: RandomErasing | None = None
    """null: as the set has it."""

    def operations(self) -> dict[str, PixelOperation]:
        """What is done, by name, in the order in which it is done."""
        chosen: dict[str, PixelOperation] = {}
        for name, kind in OPERATIONS.items():
            own = getattr(self, name)
            operation = kind() if own is None and name in PIXEL_SETS[self.set] else own
            if operation is not None and operation.p > 0:
                chosen[name] = operation
        return chosen


class AugmentationConfig(Config):
    """Used in training only. One camera, one error of the detector and one change of pixels are drawn for a clip."""

    enabled: bool = True
    """false: no augmentation of any kind."""
    rotation_deg: Annotated[float, Field(ge=0, le=360)] = 360.0
    """The camera rolls by U(0, this)."""
    tilt_max_deg: Annotated[float, Field(ge=0, le=60)] = 0.0
    """The camera turns by U(0, this) about a random axis in the image plane; 5 to 30 is useful."""
    rigid_depth: Range = (0.9, 1.1)
    """The hand moves along its ray to this times its distance, and its picture shrinks alike."""
    depth_scale: Range = (1.0, 1.0)
    """All depths times this, as published. It stretches the hand, which MANO's labels cannot follow: use rigid_depth."""
    focal_scale: Range = (0.9, 1.1)
    """The focal lengths times this."""
    princpt_std: NonNegativeFloat = 1 / 9
    """Each coordinate of the principal point moves by a normal deviate of this share of its distance from pixel 0, 0."""
    box: Literal["joints", "corners"] = "joints"
    """joints: the box of a frame whose picture was changed is the tight box of its valid 2D joints where at least 16 of
    them are valid, as in the data; else, and with `corners`, that of its old box's corners, up to 1.4 times as wide."""
    box_shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """The box's centre moves by up to this share of its longer side."""
    box_scale: Range = (0.8, 1.25)
    """The box's size times this, log-uniform."""
    pixels: PixelConfig = PixelConfig()
    """Changes of pixels."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for name in ("rigid_depth", "depth_scale", "focal_scale", "box_scale"):
            _ordered(f"augmentation.{name}", getattr(self, name))
        if not (_is_one(self.rigid_depth) or _is_one(self.depth_scale)):
            raise ValueError(
                f"augmentation.rigid_depth is {list(self.rigid_depth)} and augmentation.depth_scale is "
                f"{list(self.depth_scale)}: both change the depth; one of them must be [1, 1]"
            )
        return self


OPERATIONS: dict[str, type[PixelOperation]] = {
    "color_jitter": ColorJitter,
    "sharpness": Sharpness,
    "equalize": Equalize,
    "gaussian_blur": GaussianBlur,
    "motion_blur": MotionBlur,
    "gaussian_noise": GaussianNoise,
    "random_erasing": RandomErasing,
}
"""In the order in which they are done."""
PIXEL_SETS: dict[PixelSet, frozenset[str]] = {
    "none": frozenset(),
    "color_jitter_only": frozenset({"color_jitter"}),
    "default": frozenset({"color_jitter", "gaussian_noise"}),
    "with_gaussian_blur": frozenset({"color_jitter", "gaussian_noise", "gaussian_blur"}),
    "aggressive": frozenset(OPERATIONS),
}


def _odd(name: str, size: int) -> None:
    if size % 2 == 0:
        raise ValueError(f"{name} is {size}; an odd number has a middle")


def _ordered(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} is {list(bounds)}; the smaller bound comes first")


def _is_one(bounds: tuple[float, float]) -> bool:
    return math.isclose(bounds[0], 1) and math.isclose(bounds[1], 1)
