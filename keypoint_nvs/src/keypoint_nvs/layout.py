"""What a path given on the command line is: stores of views, or a folder of pictures."""

from pathlib import Path

from keypoint_nvs.config.data import ImageData, MultiviewData
from posecore.errors import InputError

STORES = (".h5", ".hdf5")


def dataset_of_path(path: str) -> MultiviewData | ImageData:
    """A store, a glob of stores or a folder with stores in it is multiview data; a folder without is pictures.

    Raises:
        InputError: There is no such path, or a file that is no store.
    """
    if any(sign in path for sign in "*?["):
        return MultiviewData(path=path) if path.endswith(STORES) else ImageData(path=path)
    place = Path(path)
    if place.is_dir():
        has_stores = any(file.suffix in STORES for file in place.iterdir())
        return MultiviewData(path=str(place.absolute())) if has_stores else ImageData(path=str(place.absolute()))
    if place.suffix in STORES and place.is_file():
        return MultiviewData(path=str(place.absolute()))
    if place.is_file():
        raise InputError(
            f"{path}: is no HDF5 store ({', '.join(STORES)}); give a store, a folder of stores or of pictures"
        )
    raise InputError(
        f"{path}: no such file or folder; --data needs an HDF5 store, or a folder of stores or of pictures"
    )
