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
"""Modem profiles: YAML files in config/link/ that say what a modem carries."""
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, List, Tuple

import yaml

from auv_image_codec.errors import ProfileError
from auv_image_codec.link.fragmentation import largest_packet
from auv_image_codec.link.simulator import LinkModel
from auv_image_codec.resources import share_directory


@dataclass(frozen=True)
class ModemProfile:
    """
    What a modem carries, and how its water is simulated.

    :param name: of the file, without its ending.
    :param modems: that the profile fits.
    :param frame_bytes: most bytes of a frame, 16..2048.
    :param model: rate and delays, and losses to simulate.
    :param listen_time: seconds that the vehicle is silent after each packet, to hear requests.
    """

    name: str
    modems: Tuple[str, ...]
    frame_bytes: int
    model: LinkModel
    listen_time: float = 0.0


def profile_directory() -> Path:
    """Return the directory of the shipped profiles."""
    return share_directory() / 'config' / 'link'


def profile_names() -> List[str]:
    """Return the names of the shipped profiles."""
    return sorted(path.stem for path in profile_directory().glob('*.yaml'))


def load_profile(name: str) -> ModemProfile:
    """
    Return a profile.

    :param name: of a shipped one, or the path of a file of your own (ending in .yaml).
    :raises ProfileError: if there is none, or it has a missing, unknown or impossible entry.
    """
    path = Path(name) if name.endswith('.yaml') else profile_directory() / f'{name}.yaml'
    try:
        entries = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ProfileError(
            f'no modem profile {name!r} ({error.strerror}); shipped: '
            f'{", ".join(profile_names())}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f'{path}: {" ".join(str(error).split())}') from error
    if not isinstance(entries, dict):
        raise ProfileError(f'{path}: must be a mapping')
    try:
        modems = entries.pop('modems')
        if not isinstance(modems, list) or not all(isinstance(modem, str) for modem in modems):
            raise ProfileError(f'{path}: modems must be a list of names')
        frame_bytes = _number(path, 'frame_bytes', entries.pop('frame_bytes'), int)
        largest_packet(frame_bytes)
        listen_time = _number(path, 'listen_time', entries.pop('listen_time', 0.0), float)
        values = {}
        for field in fields(LinkModel):
            if field.name in entries:
                values[field.name] = _number(
                    path, field.name, entries.pop(field.name), type(field.default))
        model = LinkModel(**values)
    except KeyError as error:
        raise ProfileError(f'{path}: {error.args[0]} is missing') from error
    except ValueError as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f'{path}: {error}') from error
    if entries:
        raise ProfileError(f'{path}: unknown entries {", ".join(map(str, entries))}')
    return ModemProfile(path.stem, tuple(modems), frame_bytes, model, listen_time)


def _number(path: Path, name: str, value: Any, kind: type) -> Any:
    accepted = {int: int, float: (int, float), bool: bool}[kind]
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise ProfileError(f'{path}: {name} is {value!r}, must be of type {kind.__name__}')
    return kind(value)
