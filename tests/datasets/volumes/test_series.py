"""DICOM files as volumes: grouped and sorted by their place in the patient."""

import re

import numpy as np
import pytest
from pydicom.uid import generate_uid

from datasets.volumes.series import group_series
from tests.series_files import write_series, write_slice

STACK = np.arange(5 * 8 * 6, dtype=np.uint16).reshape(5, 8, 6)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only(folder):
    found = group_series(files(folder))
    assert (len(found.series), found.pictures, found.problems) == (1, [], [])
    return found.series[0]


def test_slices_are_sorted_by_position_whatever_their_names(tmp_path):
    paths = write_series(tmp_path / "scan", STACK)
    series = only(tmp_path)
    assert [plane.path for plane in series.planes] == paths
    assert series.name == tmp_path / "scan"
    assert (series.findings, series.straight, series.patient) == ((), True, "P1")
    assert series.distance == 2


def test_several_series_of_a_folder_are_several_volumes(tmp_path):
    for number in range(2):
        paths = write_series(tmp_path, STACK, seed=number)
        for path in paths:
            path.rename(path.with_name(f"{number}-{path.name}"))
    found = group_series(files(tmp_path))
    assert [len(each.planes) for each in found.series] == [5, 5]
    assert len({each.name for each in found.series}) == 2


@pytest.mark.parametrize(
    ("heights", "finding"),
    [
        ([0, 2, 4, 8, 10], "missing slice: between 4.00 and 8.00 mm"),
        ([0, 2, 4, 10, 12], "2 missing slices: between 4.00 and 10.00 mm"),
        ([0, 2, 4, 7.1, 9.1], "uneven distances: 3.1 to 3.1 mm instead of 2, from 4.00 mm on"),
    ],
)
def test_gaps_are_told_with_their_place(tmp_path, heights, finding):
    write_series(tmp_path, STACK, heights=heights)
    assert only(tmp_path).findings == (finding,)


def test_a_tilted_gantry_is_told(tmp_path):
    write_series(tmp_path, STACK, lean=(0, np.tan(np.radians(15))))
    (finding,) = only(tmp_path).findings
    assert finding == "gantry tilt: the stack leans by 15.0 degrees, from 0.00 mm on"


def test_copies_of_a_file_count_once(tmp_path):
    paths = write_series(tmp_path / "a", STACK)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "copy.dcm").write_bytes(paths[2].read_bytes())
    series = only(tmp_path)
    assert len(series.planes) == 5
    assert series.findings[0].startswith("doubled position: 1 slice at 4.00 mm and on")


@pytest.mark.parametrize(
    ("tag", "values", "kind"),
    [
        ("EchoTime", (10, 90), "several echoes"),
        ("TemporalPositionIdentifier", (1, 2), "several time points"),
        (
            "ImageType",
            (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
            "several kinds",
        ),
    ],
)
def test_what_lies_at_one_position_is_told_apart_by_its_tags(tmp_path, tag, values, kind):
    uid = generate_uid()
    for number, value in enumerate(values):
        write_series(tmp_path / str(number), STACK + number, uid=uid, **{tag: value})
    found = group_series(files(tmp_path))
    assert [len(each.planes) for each in found.series] == [5, 5]
    assert all(each.findings[0].startswith(kind) for each in found.series)
    assert not found.problems


def test_what_nothing_tells_apart_is_no_volume(tmp_path):
    uid = generate_uid()
    for number in range(2):
        write_series(tmp_path / str(number), STACK + number, uid=uid)
    found = group_series(files(tmp_path))
    assert not found.series
    assert len(found.pictures) == 10
    ((_, problem),) = found.problems
    assert problem.startswith("doubled position: 2 slices lie at 0.00 mm")


def test_times_that_differ_from_slice_to_slice_make_no_volumes(tmp_path):
    uid = generate_uid()
    for height in range(4):
        write_slice(
            tmp_path / f"{height}.dcm",
            STACK[0],
            (0, 0, height),
            series=uid,
            AcquisitionTime=f"12000{height}",
        )
    assert len(only(tmp_path).planes) == 4


def test_a_localizer_in_the_series_is_a_picture_of_its_own(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, STACK, uid=uid)
    localizer = write_slice(
        tmp_path / "localizer.dcm",
        STACK[0],
        (0, 0, 0),
        series=uid,
        directions=((0, 1, 0), (0, 0, -1)),
    )
    found = group_series(files(tmp_path))
    ((volume, (told,)),) = [(each, each.findings) for each in found.series]
    assert len(volume.planes) == 5
    assert re.fullmatch(
        r"another orientation or grid: 1 slice at .* mm and on, such as .*localizer\.dcm; "
        "scored as pictures",
        told,
    )
    assert found.pictures == [localizer]


def test_files_without_geometry_are_pictures(tmp_path):
    plain = write_slice(tmp_path / "x-ray.dcm", STACK[0], (0, 0, 0), series=generate_uid())
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(plain.read_bytes()[:200])
    found = group_series([plain, broken])
    assert (found.series, found.pictures) == ([], sorted([plain, broken]))
