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
"""Calibration of a camera: read from a file, and scaled to the size of a picture."""
import math
import os
from pathlib import Path
import sys
from urllib.parse import unquote, urlsplit

from sensor_msgs.msg import CameraInfo, RegionOfInterest

import yaml

from auv_image_codec.errors import AuvImageCodecError


class CalibrationError(AuvImageCodecError):
    """A calibration that is missing, malformed, or without a size to scale from."""

    kind = 'calibration'


def calibration_path(url: str) -> Path:
    """
    Return the file that a calibration URL names.

    :param url: a path, ``file:///PATH`` or ``package://PACKAGE/PATH``.
    :raises CalibrationError: if it is none of these, or the package is not installed.
    """
    if '://' not in url:
        return Path(url).expanduser()
    parts = urlsplit(url)
    if parts.scheme == 'file' and parts.netloc in ('', 'localhost'):
        return Path(unquote(parts.path))
    if parts.scheme == 'package' and parts.netloc:
        return _package_share(parts.netloc, url) / unquote(parts.path).lstrip('/')
    raise CalibrationError(f'{url}: not a path, file:///PATH or package://PACKAGE/PATH')


def _package_share(package: str, url: str) -> Path:
    # As the ament index does, and without AMENT_PREFIX_PATH in the Python installation.
    for prefix in (*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix):
        share = Path(prefix) / 'share' / package
        if prefix and share.is_dir():
            return share
    raise CalibrationError(f'{url}: no package {package!r} is installed')


def _matrix(document: dict, key: str, counts: tuple) -> list:
    data = document[key]['data']
    values = [float(value) for value in data]
    if counts and len(values) not in counts:
        raise ValueError(f'{key} has {len(values)} values, not {counts[0]}')
    if not all(map(math.isfinite, values)):
        raise ValueError(f'{key} has a value that is not finite')
    return values


def load_camera_info(url: str) -> CameraInfo:
    """
    Read a calibration file in the YAML format of the camera_calibration package.

    :param url: as for calibration_path().
    :return: the calibration, with an empty header.
    :raises CalibrationError: if there is no such file, or it is not a calibration.
    """
    path = calibration_path(url)
    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(
            f'cannot read the calibration {path}: {" ".join(str(error).split())}') from error
    try:
        info = CameraInfo(
            width=int(document['image_width']), height=int(document['image_height']),
            distortion_model=str(document['distortion_model']),
            d=_matrix(document, 'distortion_coefficients', ()),
            k=_matrix(document, 'camera_matrix', (9,)),
            r=_matrix(document, 'rectification_matrix', (9,)),
            p=_matrix(document, 'projection_matrix', (12,)))
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        reason = f'{error} is missing' if isinstance(error, KeyError) else error
        raise CalibrationError(
            f'{path} is not a calibration of the camera_calibration package: {reason}') from error
    if not (0 < info.width < 2 ** 32 and 0 < info.height < 2 ** 32):
        raise CalibrationError(f'{path} is for {info.width}x{info.height} pixels')
    return info


def scale_camera_info(info: CameraInfo, width: int, height: int) -> CameraInfo:
    """
    Return the calibration for a picture of the same view in another size.

    If the camera delivers pictures of this size already, with its binning and region of interest,
    nothing changes. Otherwise both are worked into the matrices, which are then scaled as the
    ROS image pipeline scales them: the first rows with the width, the second with the height.

    :param info: calibration of the camera; not changed, its header is taken over.
    :param width: pixels of the picture, with ``height``.
    :raises CalibrationError: if the calibration names no size.
    """
    region = info.roi
    full = region.width == 0 or region.height == 0
    binning = (max(1, info.binning_x), max(1, info.binning_y))
    camera_size = ((info.width if full else region.width) // binning[0],
                   (info.height if full else region.height) // binning[1])
    if 0 in camera_size:
        raise CalibrationError(
            f'the calibration is for {camera_size[0]}x{camera_size[1]} pixels')
    result = CameraInfo(
        header=info.header, width=info.width, height=info.height, d=info.d, k=info.k, r=info.r,
        p=info.p, distortion_model=info.distortion_model, binning_x=info.binning_x,
        binning_y=info.binning_y, roi=region)
    if camera_size == (width, height):
        return result
    scale = (width / camera_size[0] / binning[0], height / camera_size[1] / binning[1])
    offset = (0, 0) if full else (region.x_offset, region.y_offset)
    k, p = list(info.k), list(info.p)
    for row in range(2):
        k[3 * row + 2] -= offset[row] * k[8]
        p[4 * row + 2] -= offset[row] * p[10]
        for column in range(3):
            k[3 * row + column] *= scale[row]
        for column in range(4):
            p[4 * row + column] *= scale[row]
    result.k, result.p = k, p
    result.width, result.height = width, height
    result.binning_x = result.binning_y = 0
    result.roi = RegionOfInterest(do_rectify=region.do_rectify)
    return result
