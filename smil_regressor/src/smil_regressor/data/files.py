"""Opens data files of either HDF5 layout."""

from pathlib import Path

from posecore.bodymodel import BodyModel
from posecore.data.hdf5 import Hdf5Reader
from posecore.errors import InputError
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.singleview_file import SingleViewFile


def open_file(
    path: Path, world_scale: float | None = None, body: BodyModel | None = None
) -> MultiViewFile | SingleViewFile:
    """The reader that fits the file's contents.

    Args:
        world_scale: Metres per unit of length, where the file does not say it.
        body: For limbs stored as PCA weights in original single-view files.

    Raises:
        InputError: No such file, not HDF5, torn, or of another layout.
    """
    if path.is_dir():
        raise InputError(f"{path}: a folder; training reads HDF5 files, `smil data convert` makes one from it")
    table = Hdf5Reader(path)
    is_multi_view, is_single_view = "multiview_images" in table, "images" in table
    table.close()
    if is_multi_view:
        return MultiViewFile(path, world_scale)
    if is_single_view:
        return SingleViewFile(path, world_scale, body)
    raise InputError(
        f"{path}: neither multiview_images nor images is in the file; use one that `smil data convert` or "
        "`smil data synth` made"
    )
