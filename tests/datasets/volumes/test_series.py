"""DICOM files as volumes: grouped and sorted by their place in the patient."""

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from datasets.folders.inputs import find_inputs
from datasets.volumes.series import group_series
from tests.medical_files import sequence_item
from tests.series_files import write_enhanced, write_series, write_slice

STACK = np.arange(5 * 8 * 6, dtype=np.uint16).reshape(5, 8, 6)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only(folder):
    found = group_series(files(folder))
    assert (len(found.series), found.problems) == (1, [])
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
        ([0, 2, 4, 7.1, 9.1], "uneven distances: 3.1 mm instead of 2, from 4.00 mm on"),
        # Each of them is within 2 % of the others.
        (np.cumsum([0.0, *[1] * 20, *[1.019] * 20]),
         "uneven distances: 1 to 1.02 mm instead of 1.01, from 0.00 mm on"),
    ],
    ids=["one", "two", "uneven", "growing"],
)  # fmt: skip
def test_gaps_are_told_with_their_place(tmp_path, heights, finding):
    write_series(tmp_path, np.zeros((len(heights), 4, 4), np.uint16), heights=heights)
    assert only(tmp_path).findings == (finding,)


def test_rounded_positions_are_even(tmp_path):
    heights = [round(number * 2 / 3, 2) for number in range(80)]
    write_series(tmp_path, np.zeros((80, 4, 4), np.uint16), heights=heights)
    series = only(tmp_path)
    assert (series.straight, series.findings) == (True, ())
    assert series.distance == pytest.approx(2 / 3, abs=1e-4)


def test_slices_of_one_uid_at_other_places_are_no_copies(tmp_path):
    write_series(tmp_path, STACK, SOPInstanceUID=generate_uid())
    assert len(only(tmp_path).planes) == 5


def test_echoes_between_one_another_are_volumes_of_their_own(tmp_path):
    uid = generate_uid()
    for number in range(2):
        heights = np.arange(5) * 2 + number
        folder = tmp_path / str(number)
        write_series(folder, STACK, heights=heights, uid=uid, EchoTime=10 + number)
    found = group_series(files(tmp_path))
    assert [each.distance for each in found.series] == [2, 2]
    told = "several echoes: 2 volumes in one series, from 0.00 mm on"
    assert [each.findings for each in found.series] == [(told,), (told,)]


def test_a_slice_that_lies_nowhere_near_is_told_and_fills_no_memory(tmp_path):
    write_series(tmp_path, STACK, heights=[0, 2, 4, 6, 1e6])
    found = group_series(files(tmp_path))
    assert not found.series
    assert found.problems == [
        (
            tmp_path,
            "wrong positions: 5 slices, 2 mm apart, reach from 0.00 to 1000000.00 mm; all are "
            "scored as separate images",
        )
    ]


def test_a_frame_beside_the_volume_of_its_file_is_told(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", STACK)
    file = pydicom.dcmread(path)
    plane = file.PerFrameFunctionalGroupsSequence[4]
    plane.PlaneOrientationSequence = [sequence_item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]
    del file.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for each in file.PerFrameFunctionalGroupsSequence[:4]:
        each.PlaneOrientationSequence = [sequence_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    file.save_as(path)
    found = group_series([path])
    assert [len(each.planes) for each in found.series] == [4]
    ((where, problem),) = found.problems
    assert where == path
    assert problem.startswith("frame 4 at ")
    assert problem.endswith("other frames of this file do; it is not scored")


def test_a_tilted_gantry_is_told(tmp_path):
    write_series(tmp_path, STACK, lean=(0, np.tan(np.radians(15))))
    (finding,) = only(tmp_path).findings
    assert finding == "gantry tilt: the stack leans by 15.0 degrees, from 0.00 mm on"


def test_slices_of_a_moved_table_are_no_gantry_tilt(tmp_path):
    uid = generate_uid()
    for height, aside in enumerate([0, 0, 0, 5, 5]):
        write_slice(tmp_path / f"{height}.dcm", STACK[0], (aside, 0, height), series=uid)
    (finding,) = only(tmp_path).findings
    assert finding == "shifted slices: up to 5 mm sideways, from 3.00 mm on"


def test_copies_of_a_file_count_once(tmp_path):
    paths = write_series(tmp_path / "a", STACK)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "copy.dcm").write_bytes(paths[2].read_bytes())
    series = only(tmp_path)
    assert len(series.planes) == 5
    assert series.findings[0].startswith("duplicates: skipping copies of 1 slice, from 4.00 mm on")
    assert len(find_inputs([tmp_path], recursive=True)) == 5


@pytest.mark.parametrize(
    ("tag", "values", "kind"),
    [
        ("EchoTime", (10, 90), "several echoes"),
        ("TemporalPositionIdentifier", (1, 2), "several time points"),
        ("ImageType", [["ORIGINAL", "PRIMARY", each] for each in "MP"], "several kinds"),
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


def test_reconstructions_between_one_another_are_told_apart(tmp_path):
    uid = generate_uid()
    for number, kernel in enumerate(("B30f", "B70f")):
        heights = [2 * each + number for each in range(5)]
        write_series(tmp_path / kernel, STACK, heights=heights, uid=uid, ConvolutionKernel=kernel)
    found = group_series(files(tmp_path))
    assert [len(each.planes) for each in found.series] == [5, 5]
    assert all(each.findings[0].startswith("several reconstructions") for each in found.series)


def test_times_that_differ_from_slice_to_slice_make_no_volumes(tmp_path):
    uid = generate_uid()
    for height in range(4):
        path, tags = tmp_path / f"{height}.dcm", {"AcquisitionTime": f"12000{height}"}
        write_slice(path, STACK[0], (0, 0, height), series=uid, **tags)
    assert len(only(tmp_path).planes) == 4


def test_a_localizer_in_the_series_is_a_picture_of_its_own(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, STACK, uid=uid)
    localizer, upright = tmp_path / "localizer.dcm", ((0, 1, 0), (0, 0, -1))
    write_slice(localizer, STACK[0], (0, 0, 0), series=uid, directions=upright)
    found = group_series(files(tmp_path))
    ((volume, (told,)),) = [(each, each.findings) for each in found.series]
    assert len(volume.planes) == 5
    assert re.fullmatch(
        r"different orientation or grid: 1 slice, from .* mm on, such as .*localizer\.dcm; "
        "scored as separate images",
        told,
    )
    assert localizer in {sample.path for sample in find_inputs([tmp_path])}


def test_files_without_geometry_are_pictures(tmp_path):
    plain = write_slice(tmp_path / "x-ray.dcm", STACK[0], (0, 0, 0), series=generate_uid())
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(plain.read_bytes()[:200])
    assert group_series([plain, broken]).series == []
    assert [sample.path for sample in find_inputs([tmp_path])] == [broken, plain]


def test_a_series_may_be_named_in_several_ways(tmp_path, monkeypatch):
    paths = write_series(tmp_path / "scan", STACK)
    monkeypatch.chdir(tmp_path)
    here = [path.relative_to(tmp_path) for path in paths[:2]]
    (sample, *_) = find_inputs([*here, *paths[2:]])
    assert sample.volume_name == tmp_path / "scan"
    (sample, *_) = find_inputs([*here, *(Path("scan/../scan", each.name) for each in paths[2:])])
    assert sample.volume_name == Path("scan")
