# Copyright 2026 auv_image_codec maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Calibrations: reading files by path and URL, and scaling to another picture size."""
import numpy as np

import pytest

pytest.importorskip('sensor_msgs', reason='sensor_msgs is not installed: no calibrations')
from sensor_msgs.msg import CameraInfo, RegionOfInterest  # noqa: E402

from auv_image_codec.nodes.camera_info import (  # noqa: E402
    calibration_path, CalibrationError, load_camera_info, scale_camera_info)

CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [500.0, 0, 320.5, 0, 510.0, 241.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.1, 0.2, 0.001, -0.002, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix:
  rows: 3
  cols: 4
  data: [490.0, 0, 321.0, -49.0, 0, 505.0, 242.0, 0, 0, 0, 1, 0]
"""


@pytest.fixture
def calibration_file(tmp_path):
    path = tmp_path / 'front camera.yaml'
    path.write_text(CALIBRATION)
    return path


def test_reads_a_file_by_path_and_by_url(calibration_file):
    info = load_camera_info(str(calibration_file))
    assert (info.width, info.height, info.distortion_model) == (640, 480, 'plumb_bob')
    assert list(info.k) == [500.0, 0, 320.5, 0, 510.0, 241.5, 0, 0, 1]
    assert list(info.d) == [-0.1, 0.2, 0.001, -0.002, 0.0]
    assert list(info.p)[3] == -49.0
    assert load_camera_info(calibration_file.as_uri()) == info


def test_finds_files_of_packages(tmp_path, monkeypatch):
    share = tmp_path / 'second' / 'share' / 'vehicle'
    share.mkdir(parents=True)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}/first:{tmp_path}/second')
    assert calibration_path('package://vehicle/cameras/front.yaml') \
        == share / 'cameras' / 'front.yaml'


def test_finds_files_of_packages_beside_python(tmp_path, monkeypatch):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    monkeypatch.setattr('sys.prefix', str(tmp_path))
    (tmp_path / 'share' / 'vehicle').mkdir(parents=True)
    assert calibration_path('package://vehicle/a.yaml') == tmp_path / 'share/vehicle/a.yaml'


@pytest.mark.parametrize('url, words', [
    ('/nowhere/front.yaml', 'No such file'),
    ('file:///nowhere/front.yaml', 'No such file'),
    ('file://elsewhere/front.yaml', 'not a path'),
    ('package://no_such_package_at_all/front.yaml', 'no_such_package_at_all'),
    ('https://example.com/front.yaml', 'not a path'),
    ('/', 'cannot read')])
def test_says_what_is_wrong_with_a_url(url, words):
    with pytest.raises(CalibrationError, match=words):
        load_camera_info(url)


@pytest.mark.parametrize('old, new, words', [
    ('camera_matrix', 'camera_matrices', 'camera_matrix'),
    ('image_width: 640', 'image_width: wide', 'wide'),
    ('image_width: 640', 'image_width: 0', '0x480'),
    ('image_width: 640', 'image_width: -640', '-640x480|not a calibration'),
    ('320.5, ', '', '8 values'),
    ('320.5', '.nan', 'finite'),
    ('{rows: 3, cols: 3, data: [500', '[500', 'not a calibration|cannot read'),
    ('image_width', '\tx', 'cannot read')])
def test_says_what_is_wrong_with_a_file(calibration_file, old, new, words):
    calibration_file.write_text(CALIBRATION.replace(old, new))
    with pytest.raises(CalibrationError, match=words):
        load_camera_info(str(calibration_file))


@pytest.mark.parametrize('content', [b'', b'just text', b'[1, 2]', bytes(range(256))])
def test_refuses_files_that_are_no_calibration(calibration_file, content):
    calibration_file.write_bytes(content)
    with pytest.raises(CalibrationError):
        load_camera_info(str(calibration_file))


def project(matrix, point):
    """Return the pixel of a point in front of the camera."""
    vector = np.array(matrix).reshape(3, -1) @ np.array([*point, 1.0])[:len(matrix) // 3]
    return vector[:2] / vector[2]


POINT = (0.3, -0.2, 2.0)


def test_scales_so_that_points_stay_in_their_place(calibration_file):
    info = load_camera_info(str(calibration_file))
    scaled = scale_camera_info(info, 320, 120)
    assert (scaled.width, scaled.height) == (320, 120)
    for name in ('k', 'p'):
        np.testing.assert_allclose(
            project(getattr(scaled, name), POINT),
            project(getattr(info, name), POINT) * [0.5, 0.25])
    assert list(scaled.d) == list(info.d) and list(scaled.r) == list(info.r)
    assert scaled.distortion_model == info.distortion_model
    assert (info.width, list(info.k)[0]) == (640, 500.0), 'the source must not change'


def test_leaves_a_calibration_of_the_right_size_alone(calibration_file):
    info = load_camera_info(str(calibration_file))
    info.header.frame_id = 'front'
    assert scale_camera_info(info, 640, 480) == info
    info.binning_x = info.binning_y = 2
    assert scale_camera_info(info, 320, 240) == info
    info.roi = RegionOfInterest(x_offset=100, y_offset=80, width=400, height=200)
    assert scale_camera_info(info, 200, 100) == info


def test_works_region_and_binning_into_the_matrices(calibration_file):
    info = load_camera_info(str(calibration_file))
    info.binning_x, info.binning_y = 2, 4
    info.roi = RegionOfInterest(x_offset=100, y_offset=80, width=400, height=200)
    # The camera sends 200x50 pixels; the picture here has 100x100.
    scaled = scale_camera_info(info, 100, 100)
    for name in ('k', 'p'):
        pixel = project(getattr(info, name), POINT)
        np.testing.assert_allclose(
            project(getattr(scaled, name), POINT),
            (pixel - [100, 80]) / [2, 4] * [100 / 200, 100 / 50])
    assert (scaled.width, scaled.height, scaled.binning_x, scaled.roi.width) == (100, 100, 0, 0)


def test_refuses_to_scale_from_nothing():
    with pytest.raises(CalibrationError, match='0x0'):
        scale_camera_info(CameraInfo(), 10, 10)
    with pytest.raises(CalibrationError):
        scale_camera_info(CameraInfo(width=1, height=1, binning_x=2), 10, 10)
