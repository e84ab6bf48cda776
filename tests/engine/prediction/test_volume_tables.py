"""Tables, report and screen of predicted volumes, and what stops none of them."""

import base64
import io
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from engine.prediction import report_volumes
from engine.report import volumes
from tests.conftest import read_csv
from tests.engine.prediction.conftest import AFFINE, STACK, VOLUME
from tests.series_files import write_series


def test_a_volume_has_one_row_and_its_slices_no_pictures(run, tmp_path):
    write_series(tmp_path / "in/scan", STACK)
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "in/alone.png")
    (row,) = run(tmp_path / "in", keys=["VOLUME_REDUCTION=mean"])
    assert list(row) == [
        *("path", "score", "predicted", "num_slices", "num_anomalous", "worst_slice", "map"),
    ]
    assert float(row["score"]) == pytest.approx(0.2)
    found = [row[key] for key in ("predicted", "num_slices", "num_anomalous", "worst_slice")]
    assert found == ["1", "10", "2", "6"]
    out = tmp_path / "out"
    assert len(read_csv(out / "scores.csv")) == 11
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {each for each in files if "/" in each} == {
        *("maps/alone.png.npy", "overlays/alone.png.png"),
        *("maps/scan_map.nii.gz", "maps/scan_mask.nii.gz"),
    }


def test_the_report_shows_the_volumes_of_the_highest_scores(run, tmp_path, monkeypatch):
    monkeypatch.setattr(report_volumes, "SHOWN_VOLUMES", 2)
    monkeypatch.setattr(volumes, "SHOWN_SLICES", 4)
    for name, part in (("a", 0.3), ("b", 0.9), ("c", 0.2), ("d", 0.6)):
        write_series(tmp_path / "in" / name, (STACK * part).astype(np.uint16))
    run(tmp_path / "in", maps=False)
    page = (tmp_path / "out/report.html").read_text()
    assert re.findall(r'aria-label="Volume [^"]*/(\w)"', page) == ["b", "d"]
    assert re.findall(r'<th scope="row" class="path">[^<]*/(\w)</th>', page) == ["a", "c"]
    # Evenly chosen are 0, 4 or 5, and 9; the worst is 6.
    shown = re.findall(r'id="slice-0-\d" .* data-text="slice (\d+), score ([\d.]+)"', page)
    assert [int(number) for number, _ in shown] == [0, 4, 6, 9]
    assert float(shown[2][1]) == pytest.approx(0.9, abs=0.01)
    (uri,) = re.findall(r'id="slice-0-2-image" href="data:image/webp;base64,([^"]*)"', page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    # Of a slice as it is looked at: the patient's right on the left.
    assert np.abs(picture[..., 0] - 0.255 * 0.9 * STACK[6]).max() < 60
    assert 'viewBox="0 0 256.0 256.0"' in page, "20 rows of 1.5 mm, 24 columns of 1.25 mm"


def test_without_a_gallery_volumes_have_no_pictures(run, tmp_path):
    write_series(tmp_path / "scan", STACK)
    run(tmp_path / "scan", keys=["REPORT_IMAGES=0"])
    page = (tmp_path / "out/report.html").read_text()
    assert "All volumes, highest score first" in page
    assert "data:image" not in page


def test_one_volume_has_its_verdict_on_the_screen(run, tmp_path, capsys):
    write_series(tmp_path / "scan", STACK)
    run(tmp_path / "scan")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path}/scan: score 1: anomalous, worst slice 6"
    assert second.startswith("10 images scored, 2 called anomalous (threshold 0.5), highest ")
    assert third == f"0 errors; all files are in {tmp_path / 'out'}"
    write_series(tmp_path / "other", STACK // 4)
    run(tmp_path / "scan", tmp_path / "other")
    first, *_ = capsys.readouterr().out.splitlines()
    expected = "2 volumes, 1 called anomalous, highest score 1"
    assert first == f"{expected}: {tmp_path / 'scan'}"


def test_no_map_takes_the_place_of_another(run, tmp_path):
    for name in ("a.nii.gz", "a.nii", "a-2.nii"):
        nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), tmp_path / name)
    rows = run(tmp_path / "a-2.nii", tmp_path / "a.nii.gz", tmp_path / "a.nii")
    assert len({row["map"] for row in rows}) == 3


def test_slices_of_background_are_not_counted(run, tmp_path, caplog, capsys):
    write_series(tmp_path / "scan", STACK)
    keys = ["MIN_FOREGROUND=0.01", "VOLUME_REDUCTION=mean"]
    (row,) = run(tmp_path / "scan", keys=keys)
    assert "2 images scored, 8 background slices skipped, 2 called" in capsys.readouterr().out
    assert (row["score"], row["num_slices"]) == ("1.0", "2")
    texts = re.findall('data-text="([^"]*)"', (tmp_path / "out/report.html").read_text())
    assert texts == ["slice 6, score 1", "slice 7, score 1"]
    assert len(read_csv(tmp_path / "out/scores.csv")) == 10
    (row,) = run(tmp_path / "scan", keys=["MIN_FOREGROUND=0.5"])
    assert [row[key] for key in ("score", "predicted", "num_slices", "worst_slice")] == [
        *("0.0", "", "0", ""),
    ]
    assert f"{tmp_path}/scan: no slice has enough foreground to score" in caplog.text


def test_a_damaged_volume_is_one_error_and_the_others_are_written(run, tmp_path):
    source = tmp_path / "in"
    for name in ("a", "b"):
        write_series(source / name, STACK)
    first = next((source / "a").iterdir())
    first.write_bytes(first.read_bytes()[:-90])
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), source / "c.nii.gz")
    (source / "c.nii.gz").write_bytes((source / "c.nii.gz").read_bytes()[:-40])
    rows = run(source, keys=["SLICE_AXIS=coronal"])
    assert [Path(row["path"]).name for row in rows] == ["b"]
    names = [Path(row["path"]).name for row in read_csv(tmp_path / "out/errors.csv")]
    assert names[0].startswith("c.nii.gz")
    assert names[-1] == "a"
    rows = run(source)
    assert [row["num_slices"] for row in rows if "nii" not in row["path"]] == ["9", "10"]


def test_a_volume_with_slices_that_cannot_be_read_is_never_called_normal(run, tmp_path, capsys):
    for path in write_series(tmp_path / "scan", STACK)[5:8]:
        path.write_bytes(path.read_bytes()[:-90])
    (row,) = run(tmp_path / "scan")
    assert [row[key] for key in ("predicted", "num_slices", "num_anomalous")] == ["", "7", "0"]
    assert ": no verdict, worst slice 0; 3 slices could not be read" in capsys.readouterr().out
    page = (tmp_path / "out/report.html").read_text()
    assert "A volume is called anomalous if its highest-scoring slice is." in page
