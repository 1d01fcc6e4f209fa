"""The made-up hand's surface: the palm, and a tube for each finger."""

from collections.abc import Sequence

from handvit.standin.anatomy import Finger
from handvit.standin.palm import add_palm, add_rim
from handvit.standin.surface import Surface, smooth
from handvit.standin.tubes import add_tube

_FROM_Z_SIDE = ("index", "middle", "ring", "pinky")
_RINGS = (0.62, 0.82, 1.0, 1.28, 1.65, 2.0, 2.28, 2.55, 2.78)
_THUMB_RINGS = (0.74, 1.0, 1.35, 1.7, 2.0, 2.35, 2.66)


def build_surface(fingers: Sequence[Finger]) -> Surface:
    """778 vertices and 1538 faces, outward, open at the wrist."""
    surface = Surface()
    by_name = {finger.name: (number, finger) for number, finger in enumerate(fingers)}
    rim, bases = add_rim(surface, [by_name[name][1] for name in _FROM_Z_SIDE])
    thumb_hole = add_palm(surface, rim)
    for name, base in zip(_FROM_Z_SIDE, bases, strict=True):
        add_tube(surface, base, *by_name[name], _RINGS, ((2.93, 6),))
    add_tube(surface, thumb_hole, *by_name["thumb"], _THUMB_RINGS, ((2.88, 9), (2.975, 4)))
    smooth(surface)
    return surface
