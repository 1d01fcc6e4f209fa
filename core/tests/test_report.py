"""Pages are one well-formed file each that fetches nothing, escapes all text, and says what is missing."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from posecore.data.images import encode_png
from posecore.errors import InputError
from posecore.report import Chart, Line, Picture, Row, Section, read_section, write_index, write_report, write_section
from posecore.report.chart import render_chart
from posecore.report.html import joined, number, tag

NASTY = "<script>alert('x')</script> & \"q\""


def parse(html):
    assert html.startswith("<!doctype html>\n")
    return ElementTree.fromstring(html.partition("\n")[2])


def check_self_contained(html):
    root = parse(html)
    for element in root.iter():
        assert element.tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "srcset"):
            assert "://" not in element.get(name, "")
    assert "url(" not in html
    assert "@import" not in html
    return root


def text_of(root):
    return re.sub(r"\s+", " ", " ".join(root.itertext()))


def make_run(folder, steps=30, names=("predictions",)):
    (folder / "figures").mkdir(parents=True)
    (folder / "checkpoints" / "best").mkdir(parents=True)
    lines = []
    for step in range(10, 10 * steps + 1, 10):
        epoch = step // 100
        lines.append({"step": step, "epoch": epoch, "train/total": 3.0 / step, "lr": 1e-4, "samples_per_s": 51.2})
        if step % 100 == 0:
            lines.append({"step": step, "epoch": epoch, "validation/mpjpe": 0.1 / epoch, "validation/total": None})
            for name in names:
                picture = np.full((20, 30, 3), step // 5, np.uint8)
                (folder / "figures" / f"step-{step:08d}-{name}.png").write_bytes(encode_png(picture))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.json").write_text(json.dumps({"name": NASTY, "lr": 1e-4}))
    environment = {"system": "smil 0.1", "commit": "0123456789abcdef", "platform": "Linux", "command": ["smil"]}
    (folder / "environment.json").write_text(json.dumps(environment))
    best = {"step": 200, "metrics": {"mpjpe": 0.05}}
    (folder / "checkpoints" / "best" / "meta.json").write_text(json.dumps(best))
    return folder


def test_the_report_of_a_run_shows_curves_pictures_numbers_and_configuration(tmp_path):
    path = write_report(make_run(tmp_path / "my run"))
    assert path == tmp_path / "my run" / "report.html"
    root = check_self_contained(path.read_text())
    text = text_of(root)
    for shown in ("my run", "smil 0.1 · commit 0123456789", "best checkpoint", "step 200", "predictions, step 300"):
        assert shown in text
    assert [svg.get("aria-label") for svg in root.iter("svg")] == ["total", "mpjpe", "lr", "samples_per_s"]
    assert len(list(root.iter("img"))) == 3
    cells = [[cell.text for cell in row] for row in root.iter("tr")]
    assert ["validation/mpjpe", "0.1", "0.03333", "0.1", "0.03333", "0.05"] in cells
    assert NASTY in json.loads(next(pre.text for pre in root.iter("pre")))["name"]


def test_a_run_that_has_written_little_says_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    text = text_of(check_self_contained(write_report(tmp_path).read_text()))
    for said in (
        "No step has been logged: metrics.jsonl is missing or empty.",
        "No pictures have been drawn: figures/ is missing or empty.",
        "No metrics have been logged.",
        "Versions, command and machine: environment.json is missing.",
    ):
        assert said in text


def test_a_damaged_picture_is_said_in_its_place_and_a_damaged_json_refused(tmp_path):
    run = make_run(tmp_path / "run")
    damaged = run / "figures" / "step-00000300-predictions.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert f"{damaged}: PNG file is cut off" in text_of(parse(write_report(run).read_text()))
    (run / "environment.json").write_text("{")
    with pytest.raises(InputError, match=r"environment\.json: is not JSON"):
        write_report(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no run folder: neither metrics\.jsonl nor config\.json is there"):
        write_report(tmp_path)


def test_large_pictures_are_shrunk_in_the_page(tmp_path):
    run = make_run(tmp_path / "run", steps=10)
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8)
    (run / "figures" / "step-00000400-noise.png").write_bytes(encode_png(noise))
    report = write_report(run)
    assert report.stat().st_size < 2_000_000
    assert "data:image/jpeg;base64," in report.read_text()


def section_of(tmp_path, **values):
    picture = tmp_path / "pictures" / "a.png"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    default = {
        "name": "smil",
        "heading": NASTY,
        "question": "How far are the joints?",
        "baseline": "mean pose",
        "rows": [
            Row(name="MPJPE", ours=2.0, baseline=8.0, unit="mm", needed_factor=3.0),
            Row(name="PCK", ours=0.3, baseline=0.2, lower_is_better=False, needed_factor=2.0),
            Row(name="IoU", ours=0.0, baseline=0.0, lower_is_better=False),
        ],
        "pictures": [Picture(path=picture, caption="held out")],
        "charts": [Chart(title="loss", lines=[Line(name="train", steps=[1, 2], values=[3.0, None])])],
        "links": {"the run": "run/report.html"},
    }
    return Section(**default | values)


def test_an_index_shows_ours_beside_the_baseline_and_by_how_much(tmp_path):
    html = write_index("Demo", [section_of(tmp_path), section_of(tmp_path, name="empty", rows=[], pictures=[])])
    root = check_self_contained(html)
    text = text_of(root)
    for shown in ("4 × (meets 3 ×)", "1.5 × (misses 2 ×)", "mean pose", "MPJPE ↓", "PCK ↑", "held out", NASTY):
        assert shown in text
    assert "No measures were written." in text
    assert [link.get("href") for link in root.iter("a")] == ["#smil", "#empty", "run/report.html", "run/report.html"]


def test_a_section_travels_as_a_file_with_its_pictures_beside_it(tmp_path):
    section = section_of(tmp_path)
    path = write_section(section, tmp_path / "out" / "section.json")
    assert json.loads(path.read_text())["pictures"][0]["path"] == "../pictures/a.png"
    assert write_index("x", [read_section(path)]) == write_index("x", [section])
    path.write_text('{"name": "smil", "headline": "x"}')
    with pytest.raises(InputError, match=r"section\.json: heading: Field required"):
        read_section(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_section(tmp_path / "none.json")


def test_a_measure_that_is_not_finite_is_refused():
    with pytest.raises(ValidationError, match="finite number"):
        Row(name="MPJPE", ours=float("nan"), baseline=1.0)


@given(
    values=st.lists(st.one_of(st.none(), st.floats(-1e12, 1e12, allow_subnormal=False)), min_size=1, max_size=400),
    offset=st.sampled_from([0, 1, 10**6]),
)
def test_any_curve_is_drawn_inside_its_frame(values, offset):
    line = Line(name="a", steps=[offset + 3 * i for i in range(len(values))], values=values)
    root = ElementTree.fromstring(render_chart(Chart(title="t", lines=[line])))
    paths = [path.get("d") for path in root.iter("path")]
    assert bool(paths) == any(value is not None for value in values)
    places = [[float(v) for v in pair.split()] for d in paths for pair in re.split("[MLZ]", d) if pair]
    assert all(53.9 <= x <= 446.1 and 11.9 <= y <= 230.1 for x, y in places)
    assert len(places) <= 3 * 400
    assert 1 <= len(list(root.iter("text"))) <= 24 or not paths


def test_values_over_several_decades_get_a_logarithmic_axis():
    line = Line(name="a", steps=[0, 1, 2], values=[1e-4, 1e-2, 1.0])
    root = ElementTree.fromstring(render_chart(Chart(title="t", lines=[line])))
    heights = [float(circle.get("cy")) for circle in root.iter("circle")][:3]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b", tag("b", "&"), title='"') == '<p title="&quot;">a &lt; b<b>&amp;</b></p>'
    assert joined("<", tag("br"), None) == "&lt;<br/>"


def test_numbers_have_four_digits():
    assert [number(v) for v in (None, 0.0123456, 12345.0, 3, 1e-9)] == ["–", "0.01235", "12\u202f345", "3", "1e-09"]


def test_importing_the_report_imports_neither_torch_nor_opencv():
    code = "import posecore.report, sys; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
