"""Skin for a hand mesh of MANO's layout: where on a finger each face lies, and the colours of a person and a light."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from handvit.data.synthetic.anatomy import Anatomy

PALM, FOREARM = 5, 6
"""Parts beside the fingers 0 (thumb) to 4 (little finger)."""

TONES = np.array(
    [
        [0.96, 0.79, 0.69],
        [0.90, 0.69, 0.57],
        [0.80, 0.58, 0.44],
        [0.62, 0.42, 0.30],
        [0.42, 0.27, 0.19],
        [0.27, 0.18, 0.14],
    ]
)
"""The back of a hand, pale to dark."""
PALMS = np.array(
    [
        [0.98, 0.80, 0.74],
        [0.95, 0.74, 0.66],
        [0.90, 0.69, 0.58],
        [0.80, 0.58, 0.47],
        [0.72, 0.51, 0.42],
        [0.62, 0.45, 0.38],
    ]
)
FINGER_TINTS = np.array(
    [
        [0.05, -0.03, -0.04],
        [0.03, 0.02, -0.05],
        [0.0, 0.0, 0.0],
        [-0.02, 0.01, 0.03],
        [-0.04, -0.01, 0.05],
        [0, 0, 0],
        [0, 0, 0],
    ]
)
"""Slight hues by which fingers can be told apart where they cross; also the palm's and the forearm's."""

GLOVE_TINTS = np.array(
    [
        [0.5, -0.3, -0.3],
        [0.4, 0.4, -0.5],
        [-0.4, 0.4, -0.3],
        [-0.5, 0.1, 0.5],
        [0.3, -0.4, 0.5],
        [0, 0, 0],
        [0, 0, 0],
    ]
)
"""Plain colours of a glove's fingers: red, yellow, green, blue, violet."""


@dataclass(frozen=True)
class SkinMap:
    """For the corners of each face, hand first and then forearm: where on its part of the hand it lies."""

    corners: Float[Tensor, "f 3 6"]
    """Along the bone in bone lengths (0 at the joint), across in half widths, backness (1 back of the hand, -1 palm),
    and the place in rest pose in millimetres (forward, across, up from the palm)."""
    part: Int64[Tensor, " f"]
    segment: Int64[Tensor, " f"]
    """Phalanx of a finger: 0 at the base, 2 with the nail."""
    bone_mm: Float[Tensor, " f"]


def skin_map(
    anatomy: Anatomy,
    vertices: Float[np.ndarray, "v 3"],
    normals: Float[np.ndarray, "v 3"],
    weights: Float[np.ndarray, "v 16"],
    faces: Int[np.ndarray, "f 3"],
    num_hand_faces: int,
) -> SkinMap:
    """Where each corner of the rest mesh lies.

    Args:
        vertices: Rest mesh with its forearm, metres; weights and normals alike (the forearm's weights are the wrist's).
        num_hand_faces: How many of the faces, the first ones, are the hand's.
    """
    owner = weights[faces].sum(1).argmax(1)
    corners = np.empty((len(faces), 3, 6))
    part, segment, bone = np.full(len(faces), PALM), np.zeros(len(faces), int), np.empty(len(faces))
    side = np.cross(anatomy.palm, anatomy.forward)
    frame = np.stack([anatomy.forward, side, -anatomy.palm])
    corners[..., 3:] = 1000 * (vertices[faces] - anatomy.joints[0]) @ frame.T
    for finger, phalanx, joint in [
        (-1, 0, 0),
        *((f, k, anatomy.finger_joints[f, k]) for f in range(5) for k in range(3)),
    ]:
        mine = owner == joint
        if finger < 0:
            origin, end, across, back = anatomy.joints[0], anatomy.joints[9], side, -anatomy.palm
        else:
            origin, end = anatomy.joints[1 + 4 * finger + phalanx], anatomy.joints[2 + 4 * finger + phalanx]
            across = anatomy.flexion[finger, phalanx]
            back = np.cross(across, anatomy.along[finger, phalanx]) * -1.0
            part[mine], segment[mine] = finger, phalanx
        length = np.linalg.norm(end - origin)
        local = vertices[faces[mine]] - origin
        corners[mine, :, 0] = local @ (end - origin) / length**2
        sideways = local @ across
        corners[mine, :, 1] = sideways / max(np.abs(sideways).max(initial=0), 1e-6)
        corners[mine, :, 2] = normals[faces[mine]] @ back
        bone[mine] = 1000 * length
    part[num_hand_faces:] = FOREARM
    return SkinMap(
        torch.from_numpy(corners).float(),
        torch.from_numpy(part),
        torch.from_numpy(segment),
        torch.from_numpy(bone).float(),
    )


@dataclass(frozen=True)
class Look:
    """Colours of a person and of the light on them; 0..1."""

    back: Float32[np.ndarray, " 3"]
    palm: Float32[np.ndarray, " 3"]
    nail: Float32[np.ndarray, " 3"]
    parts: Float32[np.ndarray, "7 3"]
    """What is added to the colour of each part."""
    sleeve: Float32[np.ndarray, " 3"]
    sleeve_from_mm: float
    """How far behind the wrist the sleeve begins."""
    waves: Float32[np.ndarray, "3 3"]
    """Wave vectors of the mottling, 1/mm."""
    crease: float
    """How dark creases are."""
    light: Float32[np.ndarray, " 3"]
    """Unit vector towards the light, camera frame."""
    light_color: Float32[np.ndarray, " 3"]
    ambient: Float32[np.ndarray, " 3"]
    sky: Float32[np.ndarray, " 3"]
    """Unit vector towards the side from which more of the ambient light comes."""


def random_look(rng: np.random.Generator, glove: float = 0.0) -> Look:
    """One person in one light; `glove` is how probably they wear a glove with coloured fingers."""
    tints = GLOVE_TINTS if glove > 0 and rng.random() < glove else FINGER_TINTS
    place = (len(TONES) - 1) * rng.beta(1.0, 1.5)
    back, palm = (np.array([np.interp(place, range(len(t)), t[:, c]) for c in range(3)]) for t in (TONES, PALMS))
    jitter = rng.normal(0, 0.02, 3)
    back, palm = back + jitter, palm + jitter
    light = rng.normal([0, -0.4, 0], 0.7)
    light[2] = -abs(light[2]) - 0.25
    sky = rng.normal([0.0, -1.0, 0.0], 0.4)
    warmth = rng.normal(0, 0.08) * np.array([1, 0, -1])
    return Look(
        back=_color(back),
        palm=_color(palm),
        nail=_color(0.55 * palm + 0.45 * np.array([0.98, 0.80, 0.78])),
        parts=(tints + rng.normal(0, 0.012, FINGER_TINTS.shape)).astype(np.float32),
        sleeve=_color(rng.uniform(0.05, 0.85) + rng.normal(0, 0.12, 3)),
        sleeve_from_mm=float(rng.uniform(15, 60) if rng.random() < 0.6 else 1e6),
        waves=rng.normal(0, 0.25, (3, 3)).astype(np.float32),
        crease=float(rng.uniform(0.2, 0.45)),
        light=_unit(light),
        light_color=(rng.uniform(0.5, 0.95) * (1 + warmth)).astype(np.float32),
        ambient=(rng.uniform(0.3, 0.6) * (1 - 0.5 * warmth)).astype(np.float32),
        sky=_unit(sky),
    )


@dataclass(frozen=True)
class Looks:
    """The looks of a batch of pictures, stacked along b."""

    back: Float[Tensor, "b 3"]
    palm: Float[Tensor, "b 3"]
    nail: Float[Tensor, "b 3"]
    parts: Float[Tensor, "b 7 3"]
    sleeve: Float[Tensor, "b 3"]
    sleeve_from_mm: Float[Tensor, " b"]
    waves: Float[Tensor, "b 3 3"]
    crease: Float[Tensor, " b"]
    light: Float[Tensor, "b 3"]
    light_color: Float[Tensor, "b 3"]
    ambient: Float[Tensor, "b 3"]
    sky: Float[Tensor, "b 3"]

    @staticmethod
    def stack(looks: list[Look]) -> "Looks":
        names = Looks.__dataclass_fields__
        return Looks(
            **{n: torch.from_numpy(np.stack([getattr(k, n) for k in looks]).astype(np.float32)) for n in names}
        )


def albedo(
    skin: SkinMap, looks: Looks, face: Int64[Tensor, " n"], where: Float[Tensor, "n 6"], image: Int64[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """Colour of skin, nails, creases and sleeve at points of the mesh, before light.

    Args:
        face: The face of each point.
        where: `SkinMap.corners` interpolated to it.
        image: Whose look it has.
    """
    along, across, backness = where[:, 0], where[:, 1], where[:, 2]
    part, segment, bone_mm = skin.part[face], skin.segment[face], skin.bone_mm[face]
    on_back = (0.5 + 1.2 * backness).clamp(0, 1)[:, None]
    color = torch.lerp(looks.palm[image], looks.back[image], on_back) + looks.parts[image, part]
    mottle = torch.sin((where[:, 3:, None] * looks.waves[image].transpose(1, 2)).sum(1)).prod(1)
    color = color * (1 + 0.07 * mottle)[:, None]
    is_finger = part < PALM
    from_joint_mm = along * bone_mm
    joint_mm = torch.where(
        segment < 2, torch.minimum(from_joint_mm.abs(), (from_joint_mm - bone_mm).abs()), from_joint_mm.abs()
    )
    near_joint = torch.exp(-((joint_mm / 4.5) ** 2)) * is_finger
    color = color + (0.05 * near_joint * on_back[:, 0])[:, None] * color.new_tensor([1.0, -0.5, -0.6])
    line = torch.exp(-((joint_mm / 1.1) ** 2)) * is_finger + 0.6 * _palm_lines(where[:, 3:]) * (part == PALM)
    color = color * (1 - looks.crease[image] * line * (1 - 0.75 * on_back[:, 0]))[:, None]
    on_nail = ((along - 0.72) / 0.27) ** 2 + (across / 0.62) ** 2 + 6 * (0.35 - backness).clamp(min=0)
    nail = (((1.05 - on_nail) * 6).clamp(0, 1) * (segment == 2) * is_finger)[:, None]
    color = torch.lerp(color, looks.nail[image], nail)
    rim = torch.exp(-(((on_nail - 1.1) / 0.14) ** 2)) * ((segment == 2) & is_finger & (backness > 0.1))
    color = color * (1 - 0.18 * rim)[:, None]
    sleeved = ((-where[:, 3] - looks.sleeve_from_mm[image]) * 0.7).clamp(0, 1)[:, None] * (part == FOREARM)[:, None]
    return torch.lerp(color, looks.sleeve[image], sleeved).clamp(0, 1)


def lit(
    color: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"], to_camera: Float[Tensor, "n 3"],
    looks: Looks, image: Int64[Tensor, " n"],
) -> Float[Tensor, "n 3"]:  # fmt: skip
    """Lambert's light, ambient light that is stronger from one side, a little shine, and darker grazing edges."""
    facing = (normals * to_camera).sum(1)
    normals = torch.where(facing[:, None] < 0, -normals, normals)
    towards = looks.light[image]
    cosine = (normals * towards).sum(1)
    diffuse = ((cosine + 0.15) / 1.15).clamp(min=0)[:, None] * looks.light_color[image]
    ambient = (0.7 + 0.4 * (normals * looks.sky[image]).sum(1))[:, None] * looks.ambient[image]
    edge = (0.62 + 0.38 * facing.abs().clamp(max=1).sqrt())[:, None]
    half = torch.nn.functional.normalize(towards + to_camera, dim=1)
    shine = 0.1 * (normals * half).sum(1).clamp(min=0)[:, None] ** 24 * looks.light_color[image]
    return (color * edge * (diffuse + ambient) + shine).clamp(0, 1)


def _palm_lines(place_mm: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """The two lines across the palm and the one round the thumb's ball, 1 on them."""
    forward, across = place_mm[:, 0], place_mm[:, 1]
    heart = forward - 72 + 0.012 * (across - 30) ** 2
    head = forward - 58 + 0.25 * across
    life = across + 6 - 0.012 * (forward - 20) ** 2
    lines = torch.stack([heart, head, life]).abs().amin(0)
    return torch.exp(-((lines / 1.4) ** 2)) * ((forward > 12) & (forward < 80))


def _color(value: np.ndarray) -> Float32[np.ndarray, " 3"]:
    return np.asarray(np.clip(value, 0, 1), dtype=np.float32)


def _unit(vector: np.ndarray) -> Float32[np.ndarray, " 3"]:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
