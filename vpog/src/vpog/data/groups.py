"""Training and test samples: an instance of a picture, and the group of templates that it is matched with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from posecore.errors import InputError
from vpog.config.augmentation import AugmentationConfig
from vpog.data.augmentation import made_up_background, occlude, vary_colors
from vpog.data.crop import (
    box_of_bop,
    crop_depth,
    crop_mask,
    crop_matrix,
    crop_rgb,
    jitter_box,
    rotate_templates,
)
from vpog.data.records import ImageRecord, ImageSource, InstanceRecord, InstanceTable
from vpog.data.sample import Instance, Sample
from vpog.data.template_set import TemplateSet
from vpog.objects.models_info import ModelInfo
from vpog.selection import SelectionRules, select_templates
from vpog.templates import TemplateStore


@dataclass(frozen=True)
class Dataset:
    """Pictures, and what is known of the objects in them."""

    name: str
    images: ImageSource
    templates: TemplateStore
    models: Mapping[int, ModelInfo]


@dataclass(frozen=True)
class GroupRules:
    """What a sample looks like."""

    size: int
    """Side of the square crops, px."""
    selection: SelectionRules
    crop_scale: float = 1.0
    """Side of the crop over the longer side of the box."""
    background: str = "keep"
    """keep; mask: black outside the visible mask; replace: something made up where samples vary."""
    augmentation: AugmentationConfig | None = None
    """None: nothing varies."""


@dataclass(frozen=True)
class LeftOut:
    """Instances that no sample is made of, by reason."""

    hidden: int
    small: int
    without_templates: int

    def __str__(self) -> str:
        return (
            f"{self.hidden} are hidden too much, {self.small} have too small a box, "
            f"{self.without_templates} are of objects without templates"
        )


class GroupSource:
    """Samples of one data set. Draws come from the generator that is handed in, whoever loads.

    Args:
        min_visib_fract: Instances of which no more is visible are left out.
        min_box_px: So are those whose visible box has no longer side.
        objects: Only these; None: all.

    Raises:
        InputError: No instance is left, or an object has templates but no entry in models_info.json.
    """

    def __init__(
        self,
        dataset: Dataset,
        rules: GroupRules,
        *,
        min_visib_fract: float = 0.1,
        min_box_px: int = 20,
        objects: Sequence[int] | None = None,
    ) -> None:
        self.dataset, self.rules = dataset, rules
        self.min_box_px = min_box_px
        table = dataset.images.instances
        has_templates = np.isin(table.obj_id, dataset.templates.objects)
        visible = table.visib_fract > min_visib_fract
        chosen = np.ones(len(table), bool) if objects is None else np.isin(table.obj_id, objects)
        large = table.longer_side_px >= min_box_px
        self._rows: Int64[np.ndarray, " n"] = np.flatnonzero(visible & has_templates & large & chosen)
        self.left_out = LeftOut(
            hidden=int((~visible).sum()),
            small=int((visible & ~large).sum()),
            without_templates=int((visible & large & ~has_templates).sum()),
        )
        if not len(self._rows):
            raise InputError(f"{dataset.name}: none of {len(table)} instances can be used: {self.left_out}")
        unknown = sorted(set(table.obj_id[self._rows].tolist()) - set(dataset.models))
        if unknown:
            raise InputError(f"{dataset.name}: object {unknown[0]} is in the pictures but not in models_info.json")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def table(self) -> InstanceTable:
        return self.dataset.images.instances

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Of the table, one each sample."""
        return self._rows

    def select(self, indices: Int64[np.ndarray, " k"]) -> "GroupSource":
        """A source of some of the samples, in that order."""
        chosen = object.__new__(GroupSource)
        chosen.__dict__.update(self.__dict__)
        chosen._rows = self._rows[indices]
        return chosen

    def load(self, index: int, rng: np.random.Generator) -> Sample:
        """
        Raises:
            InputError: The picture, its labels or a template are damaged; names file and picture.
        """
        row = int(self._rows[index])
        image, gt_index = int(self.table.image[row]), int(self.table.gt_index[row])
        record = self.dataset.images.read(image)
        instance = next((i for i in record.instances if i.gt_index == gt_index), None)
        if instance is None:
            raise InputError(f"{self.dataset.images.where(image)}: has no object number {gt_index}")
        query = self._query(record, instance, rng)
        group = self._group(instance, rng)
        return Sample(
            images=np.concatenate([query.rgb[None], group.templates.rgb]).transpose(0, 3, 1, 2),
            masks=np.concatenate([query.mask[None], group.templates.mask]),
            depth_mm=np.concatenate([query.depth_mm[None], group.templates.depth_mm]),
            K=np.concatenate([(query.crop_from_image @ record.K)[None], group.templates.K]),
            cam_from_obj_mm=np.concatenate([group.query_pose_mm[None], group.templates.cam_from_obj_mm]),
            d_ref=group.d_ref,
            template_indices=group.templates.view_ids,
            template_types=group.types,
            crop_from_image=query.crop_from_image,
            K_image=record.K,
            instance=Instance(
                dataset=self.dataset.name,
                scene_id=record.scene_id,
                image_id=record.image_id,
                gt_index=gt_index,
                obj_id=instance.obj_id,
                visib_fract=instance.visib_fract,
                diameter_mm=self.dataset.models[instance.obj_id].diameter_mm,
            ),
            seed=int(rng.integers(2**63)),
        )

    def _query(self, record: ImageRecord, instance: InstanceRecord, rng: np.random.Generator) -> "_Query":
        rules, vary = self.rules, self.rules.augmentation
        box = box_of_bop(instance.bbox_visib_xywh)
        if vary is not None:
            box = jitter_box(box, rng, scale=vary.box_scale, shift=vary.box_shift)
        crop_from_image = crop_matrix(scaled_box(box, rules.crop_scale), rules.size)
        mask = crop_mask(instance.mask_visib.decode(), crop_from_image, rules.size)
        rgb = crop_rgb(record.rgb, crop_from_image, rules.size)
        if vary is not None:
            rgb, mask = occlude(vary_colors(rgb, vary, rng), mask, vary, rng)
        if rules.background == "mask":
            rgb = rgb * mask[..., None]
        elif rules.background == "replace" and vary is not None:
            rgb = np.where(mask[..., None], rgb, made_up_background(rules.size, rng))
        depth = np.zeros(mask.shape, np.float32)
        if record.depth_mm is not None:
            depth = np.where(mask, crop_depth(record.depth_mm, crop_from_image, rules.size), 0).astype(np.float32)
        return _Query(rgb, mask, depth, crop_from_image)

    def _group(self, instance: InstanceRecord, rng: np.random.Generator) -> "_Group":
        store, model = self.dataset.templates, self.dataset.models[instance.obj_id]
        views = store.views(instance.obj_id)
        chosen = select_templates(instance.cam_from_obj_mm, views, self.rules.selection, rng, symmetries=model)
        templates = store.load(instance.obj_id, chosen.view_rows)
        vary = self.rules.augmentation
        if vary is not None and vary.inplane_deg > 0:
            angles = np.radians(rng.uniform(-vary.inplane_deg, vary.inplane_deg, len(templates)))
            templates = rotate_templates(templates, angles)
        return _Group(templates, chosen.types, chosen.d_ref, chosen.cam_from_obj_mm)


@dataclass(frozen=True)
class _Query:
    rgb: UInt8[np.ndarray, "size size 3"]
    mask: Bool[np.ndarray, "size size"]
    depth_mm: Float32[np.ndarray, "size size"]
    crop_from_image: Float[np.ndarray, "3 3"]


@dataclass(frozen=True)
class _Group:
    templates: TemplateSet
    types: Int64[np.ndarray, " s"]
    d_ref: Float[np.ndarray, "3"]
    query_pose_mm: Float[np.ndarray, "4 4"]
    """Of a symmetric object the copy that its positives lie near: what labels are made with."""


def scaled_box(box_xyxy: Float[np.ndarray, "4"], scale: float) -> Float[np.ndarray, "4"]:
    """About its centre."""
    centre, half = (box_xyxy[:2] + box_xyxy[2:]) / 2, (box_xyxy[2:] - box_xyxy[:2]) / 2 * scale
    return np.concatenate([centre - half, centre + half])
