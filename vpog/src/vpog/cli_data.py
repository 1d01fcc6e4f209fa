"""The commands `vpog data ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from posecore.cli import Json, Shard, exit_codes, part_of, result, result_json, say
from posecore.errors import InputError

app = typer.Typer(help="Make, convert and look at data sets.", no_args_is_help=True)
convert_app = typer.Typer(help="Public data sets to shards.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")

MeshUnit = Annotated[Literal["auto", "mm", "m"], typer.Option(help="auto refuses sizes that could be either.")]
Level = Annotated[int, typer.Option(min=0, max=2, help="0, 1, 2: 42, 162 or 642 views.")]
ImagesPerShard = Annotated[int, typer.Option(min=1, help="Pictures in each shard.")]


@app.command()
def synth(
    output: Annotated[Path, typer.Argument(help="Root folder: NAME/SPLIT, NAME/models and templates/NAME go there.")],
    name: Annotated[str, typer.Option(help="Of the data set.")] = "synth",
    split: Annotated[str, typer.Option(help="Of the pictures.")] = "train_pbr_web",
    objects: Annotated[int, typer.Option(min=1, help="Different objects.")] = 12,
    images: Annotated[int, typer.Option(min=1, help="Pictures.")] = 200,
    size: Annotated[str, typer.Option(help="Height x width of the pictures, px.")] = "240x320",
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures.")] = 0,
    objects_seed: Annotated[int, typer.Option(min=0, help="Other seeds give other objects.")] = 0,
    symmetric: Annotated[
        float, typer.Option(min=0, max=1, help="Share of symmetric shapes that keep their symmetry.")
    ] = 0.25,
    easy: Annotated[
        bool, typer.Option("--easy", help="One or two objects in even light, turned by up to 30 degrees.")
    ] = False,
    sigma: Annotated[float, typer.Option(help="Templates' meshes are so much larger (10 in GSO).")] = 1.0,
    level: Level = 1,
    bop_split: Annotated[
        str | None, typer.Option(help="Also write the pictures as BOP scenes of this split, with targets.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render; 0: this one.")] = 0,
) -> None:
    """Make textured objects, their templates and pictures of them, in exactly the layouts of the public sets.

    Example: vpog data synth objects --objects 40 --images 2000, and for objects that training never sees:
    vpog data synth objects --name held --split test --objects 8 --images 60 --objects-seed 1
    """
    with exit_codes():
        from vpog.data.synthetic import SyntheticOptions, synthesise
        from vpog.data.synthetic.options import EASY, STANDARD

        options = SyntheticOptions(
            objects=objects,
            images=images,
            size_hw=_size(size),
            seed=seed,
            objects_seed=objects_seed,
            dataset=name,
            split=split,
            symmetric_share=symmetric,
            scene=EASY if easy else STANDARD,
            sigma=sigma,
            template_level=level,  # type: ignore[arg-type]
            bop_split=bop_split,
        )
        result_json(synthesise(output, options, workers=workers))


@app.command()
def templates(
    meshes: Annotated[list[Path], typer.Argument(help="Meshes; of a folder all obj_NUMBER files.")],
    output: Annotated[Path, typer.Option(help="Folder of the data set's templates.")],
    first: Annotated[int, typer.Option(min=0, help="Number of the first mesh, where names do not tell it.")] = 1,
    mesh_unit: MeshUnit = "auto",
    level: Level = 1,
    distribution: Annotated[Literal["all", "upper"], typer.Option(help="upper: no view from below.")] = "all",
    sigma: Annotated[float, typer.Option(help="Render the mesh so much larger, for finer depth.")] = 1.0,
    shard: Shard = None,
) -> None:
    """Render templates in the public layout. What is there already, of the same mesh, is kept.

    Example: vpog data templates lmo/models --output templates/lmo
    """
    with exit_codes():
        from vpog.objects.mesh_list import numbered_meshes
        from vpog.objects.meshes import read_mesh
        from vpog.templates import render_templates

        part, parts = part_of(shard)
        rows = []
        for obj_id, path in numbered_meshes(meshes, first)[part::parts]:
            done = render_templates(
                read_mesh(path, unit=mesh_unit),
                output,
                obj_id,
                level=level,  # type: ignore[arg-type]
                distribution=distribution,
                sigma=sigma,
            )
            say(f"{path}: object {obj_id}, {done.views} views in {done.seconds:.1f} s")
            rows.append({"obj_id": obj_id, "views": done.views, "empty_views": list(done.empty_views)})
        result_json({"folder": str(output), "objects": rows})


@app.command()
def describe(
    folder: Annotated[Path, typer.Argument(help="Folder of rendered templates: OBJECT/VIEW.png and object_poses/.")],
    sigma: Annotated[
        float, typer.Option(help="Rendered meshes are so much larger than the objects (10 for GSO, ShapeNet).")
    ] = 1.0,
    shard: Shard = None,
) -> None:
    """Note camera, scale and boxes of templates that were rendered elsewhere: each later start is then seconds faster."""
    with exit_codes():
        from vpog.templates import TemplateStore, describe_templates

        part, parts = part_of(shard)
        objects = TemplateStore(folder, 64).objects[part::parts]
        for obj_id in objects:
            describe_templates(folder, obj_id, sigma)
        result_json({"folder": str(folder), "objects": len(objects)})


@app.command()
def index(
    shards: Annotated[str, typer.Argument(help="Folder, glob or braces of .tar shards.")],
    output: Annotated[Path, typer.Option(help="File to write; name it in data.train[].object_index.")] = Path(
        "object_index.json"
    ),
) -> None:
    """One file with every object of every picture and where its bytes lie, for shards in folders that cannot be written to.

    Without it each shard gets its own index beside it, when it is first opened.
    """
    with exit_codes():
        from posecore.data.shards import find_shards
        from vpog.data.object_index import write_object_index
        from vpog.data.shards import WebDatasetImages

        images = WebDatasetImages(find_shards(shards), "shards")
        write_object_index(output, images.shards.indexes, images.instances)
        result_json({"file": str(output), "pictures": len(images), "objects": len(images.instances)})


@convert_app.command("bop")
def convert_bop(
    root: Annotated[Path, typer.Argument(help="Folder of the set, as lmo.")],
    split: Annotated[str, typer.Argument(help="test, train_pbr, ...")],
    output: Annotated[Path, typer.Argument(help="Folder of the shards.")],
    images_per_shard: ImagesPerShard = 1000,
    shard: Shard = None,
) -> None:
    """BOP's scene folders to shards."""
    with exit_codes():
        from vpog.data.converters.bop import convert_bop as convert

        report = convert(root, split, output, images_per_shard=images_per_shard, shard=part_of(shard))
        result_json(vars(report))


@convert_app.command("megapose")
def convert_megapose(
    shards: Annotated[str, typer.Argument(help="Folder, glob or braces of MegaPose's own shards.")],
    output: Annotated[Path, typer.Argument(help="Folder of the shards.")],
    name: Annotated[str, typer.Option(help="Of the data set, as gso.")],
    models_info: Annotated[
        Path | None, typer.Option(help="models_info.json, which numbers the objects; default: labels are numbers.")
    ] = None,
    images_per_shard: ImagesPerShard = 1000,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out shards that do not open.")] = False,
    shard: Shard = None,
) -> None:
    """The original MegaPose shards to BOP-webdataset shards."""
    with exit_codes():
        from vpog.data.converters.megapose import convert_megapose as convert
        from vpog.data.megapose_shards import read_obj_ids

        report = convert(
            shards,
            output,
            dataset=name,
            obj_ids=None if models_info is None else read_obj_ids(models_info),
            images_per_shard=images_per_shard,
            shard=part_of(shard),
            skip_broken=skip_broken,
        )
        result_json(vars(report))


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder of a split, as ROOT/NAME/train.")],
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of samples with their labels.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Of pictures.")] = 4,
    size: Annotated[int, typer.Option(min=32, help="Side of the crops, px.")] = 224,
    patch: Annotated[int, typer.Option(min=4, help="Side of the patches, px.")] = 16,
    seed: Annotated[int, typer.Option(help="Which samples.")] = 0,
    as_json: Json = False,
) -> None:
    """Objects, instances and templates of a data set; with --pictures, groups, labels and flow.

    Example: vpog data inspect objects/synth/train_pbr_web --pictures pictures
    """
    with exit_codes():
        from vpog.inspection import describe, draw_samples

        facts = describe(folder, size)
        if pictures is not None:
            facts["drawn"] = [str(path) for path in draw_samples(folder, pictures, count, size, patch, seed)]
        result_json(facts) if as_json else result("\n".join(f"{key:18} {value}" for key, value in facts.items()))


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise InputError(f"--size {text}: HEIGHTxWIDTH is needed, as 240x320") from None
    return height, width
