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
"""Find the files that the package ships: weights, configuration, demo bag."""
import os
from pathlib import Path
import sys

PACKAGE = 'auv_image_codec'


def share_directory() -> Path:
    """
    Return the directory that holds ``weights/``, ``config/``, ``launch/`` and ``demo/``.

    The source tree comes first when the package is imported from it, then every prefix of
    ``AMENT_PREFIX_PATH`` (colcon), then the Python installation (pip).

    :raises FileNotFoundError: if the package's share directory is in none of these.
    """
    source_tree = Path(__file__).resolve().parent.parent
    if (source_tree / 'package.xml').is_file():
        return source_tree
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)),
                sys.prefix]
    for prefix in prefixes:
        share = Path(prefix) / 'share' / PACKAGE
        if share.is_dir():
            return share
    raise FileNotFoundError(
        f'no share/{PACKAGE} in {", ".join(prefixes)}: is the package installed, and its '
        'workspace sourced?')


def weights_directory(codec_name: str) -> Path:
    """Return the directory of the shipped weights of a codec, which may not exist."""
    return share_directory() / 'weights' / codec_name
