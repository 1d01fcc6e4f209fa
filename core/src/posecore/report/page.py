"""The frame of a page, and pictures inside it. Nothing is fetched when it is opened."""

import base64
from importlib.resources import files
from pathlib import Path

from posecore.errors import InputError
from posecore.report.html import Html, tag

MAX_SIDE = 1400
"""Larger pictures are shrunk in the page: it has to travel by mail. The file stays as it is."""
JPEG_QUALITY = 88
SMALL_BYTES = 60_000
"""Pictures up to this size are put in as they are."""
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def page(title: str, *content: Html | None) -> str:
    """A whole document."""
    style = Html(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width,initial-scale=1"),
        tag("title", title),
        tag("style", style),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *content)), lang="en") + "\n"


def picture(path: Path, caption: str, class_: str | None = "card") -> Html:
    """A figure with the picture inside the page; one that cannot be read is said in its place."""
    try:
        source = _data_url(path)
    except InputError as error:
        return tag("figure", tag("p", str(error), class_="missing"), tag("figcaption", caption), class_=class_)
    image = tag("img", src=source, alt=caption, loading="lazy")
    return tag("figure", image, tag("figcaption", caption), class_=class_)


def missing(what: str) -> Html:
    return tag("p", what, class_="missing")


def folded(summary: str, *content: Html) -> Html:
    return tag("details", tag("summary", summary), *content)


def facts(named: dict[str, str]) -> Html:
    """A row of small cards."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in named.items()), class_="facts")


def table(header: list[str], rows: list[list[str]]) -> Html:
    """The first column names the row."""
    head = tag("thead", tag("tr", *(tag("th", cell) for cell in header)))
    body = tag("tbody", *(tag("tr", tag("th", row[0]), *(tag("td", cell) for cell in row[1:])) for row in rows))
    return tag("div", tag("table", head, body), class_="scroll")


def _data_url(path: Path) -> str:
    """Large pictures become JPEG; their pixels are decoded in any case, so that a damaged file is told."""
    import cv2

    from posecore.data.images import decode_image, encode_jpeg

    pixels = decode_image(path, background=(255, 255, 255), reduce_16_bit=True)
    data, mime = path.read_bytes(), MIME.get(path.suffix.lower())
    if mime is None or len(data) > SMALL_BYTES:
        shrink = min(1.0, MAX_SIDE / max(pixels.shape[:2]))
        size = max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if shrink < 1 else pixels
        data, mime = encode_jpeg(small, JPEG_QUALITY), "image/jpeg"
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
