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
"""What the commands share: finding inputs, naming outputs, telling of failures."""
from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import os
from pathlib import Path
import sys
from typing import NamedTuple, NoReturn

from auv_image_codec.errors import AuvImageCodecError

PACKET_SUFFIX = '.auv'


class UsageError(Exception):
    """Arguments that make no sense, each alone or together: exit status 2."""


class InputFile(NamedTuple):
    """A file to work on."""

    path: Path
    relative: Path
    """Where its output belongs below the output folder, still with the input's file name."""


def print_error(message: str) -> None:
    """Print one line to standard error, without tearing a progress bar apart."""
    line = 'auv-image-codec: ' + ' '.join(message.split())
    if 'tqdm' in sys.modules:
        sys.modules['tqdm'].tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def run_script(main: Callable[[], int]) -> NoReturn:
    """Exit with the status of a script of one purpose, or with 1 and one line of what failed."""
    try:
        sys.exit(main())
    except (AuvImageCodecError, OSError) as problem:
        print_error(str(problem))
        sys.exit(1)


class Failures:
    """Files that could not be worked on: one line each on standard error, and their count."""

    def __init__(self, command: str):
        """Start with no failure of a command."""
        self.count = 0
        self._command = command

    def add(self, path: Path, reason: object) -> None:
        """Print why a file failed, and count it."""
        self.count += 1
        text = str(reason)
        if isinstance(reason, OSError) and reason.strerror:
            text = reason.strerror.lower()
        print_error(f'{self._command}: {path}: {text}')


def find_files(paths: Iterable[Path], accept: Callable[[Path], bool] | None = None,
               ) -> list[InputFile]:
    """
    Return the files that were named, and those below the folders that were named, sorted.

    Hidden files and folders below a named folder are left out.

    :param accept: which files below a folder to take; by default all.
    :raises UsageError: if a path does not exist, or a folder holds no such file.
    """
    found: list[InputFile] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f'{path}: no such file or folder')
        if not path.is_dir():
            found.append(InputFile(path, Path(path.name)))
            continue
        below = []
        for folder, subfolders, names in os.walk(path):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
            below += [Path(folder, name) for name in names if not name.startswith('.')]
        below = sorted(file for file in below if accept is None or accept(file))
        if not below:
            raise UsageError(f'{path}: no file to work on in this folder')
        found += [InputFile(file, file.relative_to(path)) for file in below]
    return found


def output_paths(inputs: Sequence[InputFile], folder: Path, suffix: str) -> list[Path]:
    """
    Return one output path an input, all different.

    ``a.jpg`` becomes ``a.auv``; where that would be the output of two inputs, each keeps its whole
    name (``a.jpg.auv`` and ``a.png.auv``), and where even that is not enough (files of the same
    name in two folders), a number is added. File systems that ignore case are allowed for.
    """
    def key(path: Path) -> str:
        return str(path).casefold()

    stems = [file.relative.with_suffix(suffix) for file in inputs]
    count = Counter(key(stem) for stem in stems)
    taken: set[str] = set()
    outputs = []
    for file, stem in zip(inputs, stems):
        output = stem
        if count[key(stem)] > 1:
            output = file.relative.with_name(file.relative.name + suffix)
        candidate, number = output, 2
        while key(candidate) in taken:
            candidate = output.with_name(f'{output.stem}-{number}{suffix}')
            number += 1
        taken.add(key(candidate))
        outputs.append(folder / candidate)
    return outputs


def create_output_folder(folder: Path) -> None:
    """
    Create the folder for output.

    :raises UsageError: if there is a file of that name.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f'{folder} is a file; -o takes a folder')
    folder.mkdir(parents=True, exist_ok=True)


def with_progress(items: Sequence, unit: str) -> Iterator:
    """Iterate over items with a progress bar, if there are several and someone is looking."""
    if len(items) < 2 or not sys.stderr.isatty():
        return iter(items)
    from tqdm import tqdm
    return iter(tqdm(items, unit=unit, leave=False))


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --weights and --device, which mean the same to every command that codes."""
    parser.add_argument(
        '--weights', type=Path, metavar='FOLDER',
        help='folder with the weights of the codec (default: the ones that come with the package)')
    parser.add_argument(
        '--device', default='cpu', help='torch device to compute on, cpu or cuda (default: cpu)')


def open_codec(name: str, weights: Path | None, device: str, side: str):
    """
    Return a codec by name, as :func:`auv_image_codec.codecs.create_codec` does.

    :raises UsageError: if torch has no such device.
    :raises UnknownCodecError: if there is no such codec.
    :raises WeightsError: if its weights are missing, malformed, or of another codec.
    """
    import torch

    from auv_image_codec.codecs import create_codec
    try:
        torch.empty(0, device=device)
    # torch built without CUDA asserts that nobody asks for it.
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ['unknown reason'])[0]
        raise UsageError(f'cannot compute on device {device}: {reason}') from error
    # One image at a time is too little work to share: threads that wait for one another gain
    # little, and lose much where other programs use the processors.
    torch.set_num_threads(1)
    return create_codec(name, weights=weights, device=device, side=side)
