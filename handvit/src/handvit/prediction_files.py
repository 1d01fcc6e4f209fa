"""Pictures and meshes of one frame's hands."""

from typing import Literal

from handvit.draw import MESH_COLORS, Figure, draw_box, draw_hand, draw_meshes, side_view
from handvit.hand import close_wrist
from handvit.mesh_files import write_obj, write_ply
from handvit.predict import MM, Hands
from handvit.results import ResultsWriter
from posecore.draw import Color, Picture, write_picture

Meshes = Literal["none", "obj", "ply", "both"]
SIDE_VIEW = (384, 384)
COLORS: dict[str, Color] = {"right": MESH_COLORS[0], "left": MESH_COLORS[1]}


def draw_hands(image: Picture, hands: Hands) -> Picture:
    """Meshes over the picture, in the order of depth, then skeletons in the colours of the fingers, then the boxes."""
    colors = [COLORS[side] for side in hands.handedness]
    canvas = draw_meshes(image, list(hands.vertices_mm), hands.right_faces, hands.K[0], colors, opacity=0.65)
    for joints, box in zip(hands.joints_px, hands.boxes, strict=True):
        canvas = draw_hand(draw_box(canvas, box), joints)
    return canvas


def draw_side(hands: Hands) -> Picture:
    """The hands from the camera's right, with a scale: depth, which the picture itself hides."""
    figures = [
        Figure(joints, COLORS[side], vertices)
        for joints, side, vertices in zip(hands.joints_mm, hands.handedness, hands.vertices_mm, strict=True)
    ]
    return side_view(figures, hands.right_faces, SIDE_VIEW)


def write_hands(
    results: ResultsWriter, name: str, image: Picture, hands: Hands, meshes: Meshes, *, watertight: bool
) -> None:
    """NAME_overlay.png, NAME_side.png and NAME_right.obj, NAME_left.ply, ...; NAME_right_0, NAME_right_1 where a side repeats."""
    write_picture(results.path(f"{name}_overlay.png"), draw_hands(image, hands))
    write_picture(results.path(f"{name}_side.png"), draw_side(hands))
    if meshes == "none":
        return
    label = "stand-in hand, not MANO" if hands.is_standin else "MANO hand"
    for index, stem in enumerate(hand_names(name, hands)):
        vertices_m = hands.vertices_mm[index] / MM
        faces = hands.faces(index)
        faces = close_wrist(vertices_m, faces) if watertight else faces
        if meshes in ("obj", "both"):
            write_obj(results.path(f"{stem}.obj"), vertices_m, faces, label)
        if meshes in ("ply", "both"):
            write_ply(results.path(f"{stem}.ply"), vertices_m, faces, label)


def hand_names(name: str, hands: Hands) -> list[str]:
    """A name for each hand of a picture."""
    sides = hands.handedness
    names = []
    for index, side in enumerate(sides):
        number = sides[:index].count(side)
        names.append(f"{name}_{side}" + (f"_{number}" if sides.count(side) > 1 else ""))
    return names
