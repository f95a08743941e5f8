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
"""The cameras of a node: their names, and topics that do not collide."""
import re
from typing import Iterable, List, Sequence

CAMERA_LIMIT = 8  # The packet has three bits for the camera's index.
CAMERA_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*')


def camera_names_problem(names: Sequence[str]) -> str:
    """Return what is wrong with a list of camera names, or an empty string."""
    if not 1 <= len(names) <= CAMERA_LIMIT:
        return f'{len(names)} cameras; there can be 1 to {CAMERA_LIMIT}'
    for name in names:
        if not CAMERA_NAME.fullmatch(name) or '__' in name or name.endswith('_'):
            return (f'{name!r} is not a camera name: letters, digits and single underscores, '
                    'starting with a letter')
    if len(set(names)) < len(names):
        return f'names repeat in {list(names)}'
    return ''


def default_topic(topic: str, name: str, names: List[str]) -> str:
    """Return the topic for a camera that names none: below its name if there are several."""
    return topic if len(names) == 1 else f'{name}/{topic}'


def first_duplicate(values: Iterable) -> int:
    """Return the position of the first value that came before, or -1."""
    seen = set()
    for position, value in enumerate(values):
        if value in seen:
            return position
        seen.add(value)
    return -1
