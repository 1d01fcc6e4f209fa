"""One made-up object: animal, coat, input view, and what its samples hold."""

import numpy as np
from jaxtyping import Float

from keypoint_nvs.data.records import Cameras, Keypoints, MultiviewSample
from keypoint_nvs.data.synthetic.anatomy import posed, random_anatomy
from keypoint_nvs.data.synthetic.coat import GREY_BODY, coat, random_body
from keypoint_nvs.data.synthetic.ellipsoids import Ellipsoids, farthest_distance
from keypoint_nvs.data.synthetic.options import SyntheticOptions
from keypoint_nvs.data.synthetic.render import render, seen
from keypoint_nvs.rig import OBJECT_RADIUS, Rig

CATEGORY = "animal"
FRAMES_PER_STRIDE = 16


def object_id(number: int) -> str:
    """As in the store."""
    return f"animal-{number:06d}"


def make_numbered(options: SyntheticOptions, number: int) -> list[MultiviewSample]:
    """The samples of one object: the same for the same seed and number, whatever else is made."""
    return make_sequence(np.random.default_rng([options.seed, number]), options, object_id(number))


def make_object(rng: np.random.Generator, options: SyntheticOptions, name: str = "animal-000000") -> MultiviewSample:
    """The first sample of an object."""
    return make_sequence(rng, options, name, frames=1)[0]


def make_sequence(
    rng: np.random.Generator, options: SyntheticOptions, name: str = "animal-000000", frames: int | None = None
) -> list[MultiviewSample]:
    """An object walking on the spot, FRAMES_PER_STRIDE samples a stride; cameras, light and coat stay.

    World frame: z up, the input view's azimuth is 0, the object within a sphere of OBJECT_RADIUS about the origin that
    it touches in one of the frames.

    Args:
        name: Id of the object; a sample's is that and the number of its frame.
        frames: None: the options'.
    """
    azimuth_deg, elevation_deg = rng.uniform(*options.azimuth_range_deg), rng.uniform(*options.elevation_range_deg)
    distance = rng.uniform(*options.distance_range)
    body = random_body(rng)  # drawn in any case: the coat has no part in the other draws
    colors = coat(GREY_BODY if options.body_color == "fixed" else body)
    light_world = _light(rng)
    animal = random_anatomy(rng)
    count = options.frames if frames is None else frames
    walk = _into_sphere([posed(animal, 2 * np.pi * frame / FRAMES_PER_STRIDE) for frame in range(count)])
    input_view = Rig(
        azimuth_deg=(0.0,), elevation_deg=(elevation_deg,), fov_deg=options.cond_fov_deg, radius=distance,
        rows=1, cols=1, name="input",
    )  # fmt: skip
    return [
        _sample(
            f"{name}/{frame:04d}", solids.turned_about_z(-azimuth_deg), colors, light_world, input_view, azimuth_deg,
            options,
        )
        for frame, solids in enumerate(walk)
    ]  # fmt: skip


def _sample(
    sample_id: str,
    solids: Ellipsoids,
    colors: Float[np.ndarray, "p 3"],
    light_world: Float[np.ndarray, " 3"],
    input_view: Rig,
    azimuth_deg: float,
    options: SyntheticOptions,
) -> MultiviewSample:
    size = options.view_px
    targets = options.rig.cam_from_world()
    cam_from_world = np.concatenate([input_view.cam_from_world(), targets])
    K = np.stack([input_view.K(size), *[options.rig.K(size)] * len(targets)])
    pictures = render(solids, colors, light_world, cam_from_world, K, size, options.supersampling)
    cameras = [
        Cameras(cam_from_world[part].astype(np.float32), K[part].astype(np.float32))
        for part in (slice(0, 1), slice(1, None))
    ]
    return MultiviewSample(
        sample_id=sample_id,
        cond_imgs=pictures[0],
        target_imgs=pictures[1:],
        cond_camera=cameras[0],
        target_cameras=cameras[1],
        keypoints=Keypoints(solids.centre.astype(np.float32), seen(solids, cam_from_world, K, size)),
        category=CATEGORY,
        azimuth_deg=azimuth_deg,
        elevation_deg=float(input_view.elevation_deg[0]),
    )


def _light(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """Above, on the input view's side."""
    towards = np.array([rng.uniform(0.2, 0.8), rng.uniform(-0.6, 0.6), 1.0])
    return np.asarray(towards / np.linalg.norm(towards))


def _into_sphere(walk: list[Ellipsoids]) -> list[Ellipsoids]:
    """All frames moved and scaled alike, so that the largest reach from the middle is OBJECT_RADIUS."""
    centres = np.concatenate([solids.centre for solids in walk])
    middle = (centres.min(0) + centres.max(0)) / 2
    scale = OBJECT_RADIUS / max(farthest_distance(solids, middle) for solids in walk)
    return [solids.moved(-middle, scale) for solids in walk]
