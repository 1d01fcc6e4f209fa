"""Templates from files of the public layout, cut to squares and kept in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int64

from posecore.errors import InputError
from vpog.data.template_set import TemplateSet, TemplateViews
from vpog.templates.byte_cache import ByteCache
from vpog.templates.camera import TEMPLATE_K, TEMPLATE_SIZE_HW
from vpog.templates.cutting import CutView, cut_view
from vpog.templates.description import TemplateDescription, boxes_of_pictures, read_description
from vpog.templates.files import (
    depth_file,
    described_file,
    object_folder,
    picture_file,
    poses_file,
    read_depth,
    read_poses,
    read_rgba,
)

MB = 1 << 20


@dataclass(frozen=True)
class ObjectTemplates:
    """What is known of an object without its pictures."""

    views: TemplateViews
    sigma: float
    description: TemplateDescription | None


class TemplateStore:
    """The templates of one data set.

    Each process that uses a store has a cache of its own: loading with n workers takes up to n times `cache_mb`.
    """

    def __init__(
        self,
        root: Path,
        size: int,
        *,
        sigma: float | None = None,
        cache_mb: int = 512,
        K: Float[np.ndarray, "3 3"] | None = None,
        only_views: Int64[np.ndarray, " k"] | None = None,
    ) -> None:
        """
        Args:
            root: Folder with object_poses/OBJECT.npy, OBJECT/VIEW.png and OBJECT/VIEW_depth.png.
            size: Side of the squares, in px.
            sigma: How much larger the rendered meshes are than the objects; None: what templates.json says, 1 where
                there is none. A number has to agree with templates.json.
            cache_mb: Memory for cut templates, MiB; see `preload` for how many fit.
            K: Of the whole pictures, where there is no templates.json; None: that of the public sets, 640 x 480 px.
            only_views: The others count as not valid; None: all may be used.

        Raises:
            InputError: No such folder, or no object in it.
        """
        self.root, self.size, self.sigma = Path(root), size, sigma
        self.K, self.only_views = K, only_views
        self._cache: ByteCache[CutView] = ByteCache(cache_mb * MB)
        self._known: dict[int, ObjectTemplates] = {}
        self.objects = _objects(self.root)
        """Numbers of the objects that have templates."""
        self._available = frozenset(self.objects)

    def views(self, obj_id: int) -> TemplateViews:
        """Where the templates look from, and which can be used.

        Without templates.json (see `describe_templates`) all pictures are looked at, once: half a second an object.

        Raises:
            InputError: No such object, or damaged files.
        """
        return self._object(obj_id).views

    def load(self, obj_id: int, view_ids: Int64[np.ndarray, " k"]) -> TemplateSet:
        """Some templates of an object, in that order. Lengths are in units of the query pictures.

        Raises:
            InputError: No such object or view, a view that shows nothing, or damaged files.
        """
        known = self._object(obj_id)
        count = len(known.views.is_valid)
        for view in view_ids.tolist():
            if not 0 <= view < count:
                raise InputError(f"{self.root}: object {obj_id} has views 0..{count - 1}, there is no view {view}")
        cuts = [self._cut(known, view) for view in view_ids.tolist()]
        if not cuts:
            raise ValueError("view_ids is empty")
        return TemplateSet(
            obj_id,
            view_ids,
            np.stack([cut.rgb for cut in cuts]),
            np.stack([cut.mask for cut in cuts]),
            np.stack([cut.depth_mm for cut in cuts]),
            np.stack([cut.K for cut in cuts]),
            known.views.cam_from_obj_mm[view_ids],
        )

    def load_all(self, obj_id: int) -> TemplateSet:
        """Every valid template of an object."""
        return self.load(obj_id, np.flatnonzero(self.views(obj_id).is_valid))

    def preload(self, obj_ids: Iterable[int]) -> None:
        """Read all valid templates of these objects into memory, where they then stay.

        Raises:
            InputError: They do not fit in `cache_mb`; nothing is read then.
        """
        wanted = {obj_id: np.flatnonzero(self.views(obj_id).is_valid) for obj_id in obj_ids}
        needed = sum(len(views) for views in wanted.values()) * self.bytes_per_view
        if needed > self._cache.max_bytes:
            raise InputError(
                f"{self.root}: templates of {len(wanted)} objects need cache_mb: {-(-needed // MB)}, "
                f"it is {self.cache_mb}"
            )
        for obj_id, views in wanted.items():
            for view in views.tolist():
                self._cut(self._object(obj_id), view)

    @property
    def bytes_per_view(self) -> int:
        """Colours, mask and depth of a square, and its K."""
        return self.size**2 * (3 + 1 + 4) + 9 * 8

    @property
    def cache_mb(self) -> int:
        """Bound of `memory_bytes`, in MiB."""
        return self._cache.max_bytes // MB

    @property
    def memory_bytes(self) -> int:
        """Of the cut templates that this process keeps."""
        return self._cache.num_bytes

    def invalid_views(self) -> dict[int, tuple[int, ...]]:
        """Views that are missing or show nothing, of each object that has such; looks at all objects."""
        found = {obj_id: np.flatnonzero(~self.views(obj_id).is_valid).tolist() for obj_id in self.objects}
        return {obj_id: tuple(views) for obj_id, views in found.items() if views}

    def _object(self, obj_id: int) -> ObjectTemplates:
        if obj_id not in self._known:
            if obj_id not in self._available:
                some = ", ".join(map(str, self.objects[:10])) + (" ..." if len(self.objects) > 10 else "")
                raise InputError(f"{self.root}: has no templates of object {obj_id}; there are {some}")
            self._known[obj_id] = self._examine(obj_id)
        return self._known[obj_id]

    def _examine(self, obj_id: int) -> ObjectTemplates:
        poses = read_poses(poses_file(self.root, obj_id))
        if not object_folder(self.root, obj_id).is_dir():
            raise InputError(f"{object_folder(self.root, obj_id)}: no such folder, but there are poses of the object")
        description = read_description(self.root, obj_id)
        sigma = self._sigma(obj_id, description)
        boxes = boxes_of_pictures(self.root, obj_id, len(poses))[0] if description is None else description.boxes_xyxy
        if len(boxes) != len(poses):
            where = described_file(self.root, obj_id)
            raise InputError(f"{where}: boxes_xyxy: has {len(boxes)} views, but there are {len(poses)} poses")
        is_valid = np.array([box is not None for box in boxes])
        if self.only_views is not None:
            is_valid &= np.isin(np.arange(len(poses)), self.only_views)
        if not is_valid.any():
            raise InputError(f"{object_folder(self.root, obj_id)}: none of {len(poses)} templates shows anything")
        poses[:, :3, 3] /= sigma
        views = TemplateViews(obj_id, poses, -poses[:, 2, :3], is_valid)
        return ObjectTemplates(views, sigma, description)

    def _sigma(self, obj_id: int, description: TemplateDescription | None) -> float:
        if description is None:
            return 1.0 if self.sigma is None else self.sigma
        if self.sigma is not None and not np.isclose(self.sigma, description.sigma):
            raise InputError(
                f"{described_file(self.root, obj_id)}: sigma: is {description.sigma:g}, but the configuration says "
                f"{self.sigma:g}; set sigma to {description.sigma:g}"
            )
        return description.sigma

    def _cut(self, known: ObjectTemplates, view: int) -> CutView:
        return self._cache.get((known.views.obj_id, view), lambda: self._read(known, view))

    def _read(self, known: ObjectTemplates, view: int) -> CutView:
        obj_id = known.views.obj_id
        path = picture_file(self.root, obj_id, view)
        rgb, mask = read_rgba(path)
        size_hw = (mask.shape[0], mask.shape[1])
        K = self._camera(path, size_hw, known.description)
        depth = read_depth(depth_file(self.root, obj_id, view), size_hw)
        depth_mm = np.where(mask, depth / np.float32(known.sigma), 0).astype(np.float32)
        cut = cut_view(rgb, mask, depth_mm, K, self.size)
        if cut is None:
            raise InputError(f"{path}: shows nothing; views({obj_id}).is_valid tells which views do")
        return cut

    def _camera(
        self, path: Path, size_hw: tuple[int, int], description: TemplateDescription | None
    ) -> Float64[np.ndarray, "3 3"]:
        if description is not None:
            if description.size_hw != size_hw:
                height, width = description.size_hw
                raise InputError(
                    f"{path}: is {size_hw[1]} x {size_hw[0]} px, but templates.json says {width} x {height}"
                )
            return description.K_array
        if self.K is not None:
            return np.asarray(self.K, np.float64)
        if size_hw != TEMPLATE_SIZE_HW:
            raise InputError(
                f"{path}: is {size_hw[1]} x {size_hw[0]} px; without a templates.json 640 x 480 px is expected, whose "
                "camera is known; give K, or render the templates again"
            )
        return TEMPLATE_K


def _objects(root: Path) -> list[int]:
    folder = root / "object_poses"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; templates are made with `vpog data templates`")
    files = sorted(folder.glob("*.npy"))
    strange = [file for file in files if not file.stem.isdecimal()]
    if strange:
        raise InputError(f"{strange[0]}: is not named after an object's number, as 000001.npy is")
    if not files:
        raise InputError(f"{folder}: has no OBJECT.npy; templates are made with `vpog data templates`")
    return sorted(int(file.stem) for file in files)
