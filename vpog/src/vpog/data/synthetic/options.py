"""What a synthetic data set is made from."""

import re
from dataclasses import dataclass, fields
from typing import Literal, get_args

from posecore.rendering import Backend
from vpog.views import Distribution, Level

BackgroundKind = Literal["plain", "gradient", "noise", "photo"]
Range = tuple[float, float]
DEPTH_SCALE = 0.1
"""Millimetres a count of the depth pictures."""
MAX_DISTANCE_MM = 6500.0
"""What 16 bits hold at `DEPTH_SCALE`."""
SIZE_MM = (60.0, 200.0)
"""Longest side of an object."""


@dataclass(frozen=True)
class SceneOptions:
    """How hard the pictures are. Ranges are (least, most)."""

    objects: tuple[int, int] = (1, 5)
    """Labelled objects in a picture."""
    occluders: tuple[int, int] = (0, 2)
    """Unlabelled things, each before one of the objects."""
    focal: Range = (0.9, 1.6)
    """Focal length, as a share of the picture's longer side."""
    principal_point: float = 0.03
    """How far, at most, the principal point is off the middle, as a share of the longer side."""
    fill: Range = (0.3, 0.6)
    """Share of the picture's shorter side that an object's diameter covers; with the focal length it sets the distance."""
    margin: float = 0.12
    """Least distance of an object's origin to the border, as a share of the picture: less than half of `fill` lets
    objects leave the picture."""
    overlap: float = 0.55
    """Objects (as balls on the picture) may come this near: 1: they only touch, 0: they may lie behind each other."""
    inplane_deg: float = 180.0
    """Objects are turned by up to this about the ray on which they lie; at 0 their z points upwards."""
    upper_views: bool = False
    """Only seen from above (z >= 0)."""
    backgrounds: tuple[BackgroundKind, ...] = ("plain", "gradient", "noise", "photo")
    """Drawn with equal chances."""
    light_deg: float = 60.0
    """Up to how far the light is off the camera's axis."""
    ambient: Range = (0.35, 0.6)
    """Share of the light that comes from everywhere."""
    noise: float = 0.02
    """Largest standard deviation of a picture's noise; white is 1."""
    blur_px: float = 0.7
    """Largest standard deviation of a picture's blur."""


STANDARD = SceneOptions()
EASY = SceneOptions(
    objects=(1, 2), occluders=(0, 0), fill=(0.4, 0.65), margin=0.3, overlap=0.9, inplane_deg=30.0,
    backgrounds=("plain", "gradient"), light_deg=25.0, ambient=(0.5, 0.6), noise=0.005, blur_px=0.3,
)  # fmt: skip
"""For training something small in minutes."""


@dataclass(frozen=True)
class SyntheticOptions:
    """A data set with its split. Two splits of one data set share their objects: give both the same object options."""

    objects: int = 12
    """Ids count from 1."""
    images: int = 200
    size_hw: tuple[int, int] = (240, 320)
    seed: int = 0
    """Of the pictures; those of two splits differ, whatever the seed."""
    objects_seed: int = 0
    """Other seeds give other objects: use two data sets of different seeds where held-out objects are wanted."""
    dataset: str = "synth"
    split: str = "train_pbr_web"
    symmetric_share: float = 0.25
    """Chance that a shape which is symmetric gets colours that keep its symmetry; else they break it."""
    scene: SceneOptions = STANDARD
    sigma: float = 1.0
    """How much larger the templates' mesh is than the objects of the pictures; 10 in GSO and ShapeNet."""
    template_level: Level | None = 1
    """How many views templates have; None: none are written."""
    template_distribution: Distribution = "all"
    bop_split: str | None = None
    """Also write the pictures as BOP scenes with this split's name (`test`), and as targets."""
    images_per_scene: int = 100
    images_per_shard: int = 1000
    rgb_format: Literal["png", "jpg"] = "png"
    backend: Backend = "warp"


def find_problems(options: SyntheticOptions) -> list[str]:
    """What cannot be, one line a problem."""
    problems = [
        f"{name}: {value}, must be at least {least}"
        for name, value, least in (
            ("objects", options.objects, 1),
            ("images", options.images, 1),
            ("size_hw", min(options.size_hw), 32),
            ("seed", options.seed, 0),
            ("objects_seed", options.objects_seed, 0),
            ("images_per_scene", options.images_per_scene, 1),
            ("images_per_shard", options.images_per_shard, 1),
        )
        if value < least
    ]
    if not re.fullmatch(r"[A-Za-z0-9]+", options.dataset):
        problems.append(f"dataset: {options.dataset!r}, must be letters and digits: names of result files carry it")
    for name, value in (("split", options.split), ("bop_split", options.bop_split)):
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_]+", value):
            problems.append(f"{name}: {value!r}, must be letters, digits and _, as in train_pbr_web")
    if options.bop_split is not None and options.bop_split in (options.split, "models"):
        problems.append(
            f"bop_split: {options.bop_split!r} is the folder of the shards or the models; choose another name"
        )
    if not 0 <= options.symmetric_share <= 1:
        problems.append(f"symmetric_share: {options.symmetric_share}, must be 0 to 1")
    if not options.sigma > 0:
        problems.append(f"sigma: {options.sigma}, must be above 0")
    return problems + _scene_problems(options.scene, options.size_hw)


def _scene_problems(scene: SceneOptions, size_hw: tuple[int, int]) -> list[str]:
    problems = []
    bounds: dict[str, Range] = {
        "objects": (1, 40),
        "occluders": (0, 40),
        "focal": (0.3, 20),
        "principal_point": (0, 0.4),
        "fill": (0.05, 2.0),
        "margin": (0, 0.5),
        "overlap": (0, 1),
        "inplane_deg": (0, 180),
        "light_deg": (0, 90),
        "ambient": (0, 1),
        "noise": (0, 1),
        "blur_px": (0, 10),
    }
    for field in fields(scene):
        value = getattr(scene, field.name)
        if field.name in bounds:
            low, high = value if isinstance(value, tuple) else (value, value)
            least, most = bounds[field.name]
            if not least <= low <= high <= most:
                problems.append(f"scene.{field.name}: {value}, must be within {least:g} to {most:g} and not fall")
    known = get_args(BackgroundKind)
    if not scene.backgrounds or any(kind not in known for kind in scene.backgrounds):
        problems.append(f"scene.backgrounds: {scene.backgrounds}, must be one or more of {', '.join(known)}")
    # an object's diagonal is at most sqrt(3) of its longest side
    farthest = scene.focal[1] * max(size_hw) / (scene.fill[0] * min(size_hw)) * SIZE_MM[1] * 3**0.5
    if farthest > MAX_DISTANCE_MM:
        problems.append(
            f"scene.fill: begins at {scene.fill[0]}, which with scene.focal up to {scene.focal[1]} puts objects"
            f" {farthest:.0f} mm away; depth pictures reach {MAX_DISTANCE_MM:.0f} mm"
        )
    # the near side of an object must stay before the camera
    nearest = scene.focal[0] * max(size_hw) / (scene.fill[1] * min(size_hw))
    if nearest < 0.75:
        problems.append(
            f"scene.fill: reaches {scene.fill[1]}, which with scene.focal from {scene.focal[0]} puts objects"
            f" {nearest:.2f} diameters away; they must stay 0.75 before the camera"
        )
    return problems
