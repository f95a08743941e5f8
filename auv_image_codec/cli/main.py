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
"""
Run ``auv-image-codec``.

Every command is one module with ``add_parser(subparsers)``, which returns the command's parser,
and ``run(args)``, which returns the exit status. Whatever takes time to import is imported in
``run``, so that help and usage errors come at once.

Exit status: 0, or 1 if data could not be read, coded or written, or 2 for wrong usage.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
import os
import sys

from auv_image_codec import __version__
from auv_image_codec.cli.files import print_error, UsageError
from auv_image_codec.errors import AuvImageCodecError, BudgetError, UnknownCodecError

COMMANDS = ('encode', 'decode', 'info', 'play', 'bag', 'train', 'evaluate')


def build_parser() -> tuple[argparse.ArgumentParser, dict]:
    """Return the parser of the whole command line, and each command's module by name."""
    parser = argparse.ArgumentParser(
        prog='auv-image-codec',
        description='Code underwater camera images into packets of at most 500 bytes, and back.')
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    modules = {}
    for name in COMMANDS:
        modules[name] = import_module(f'auv_image_codec.cli.{name}')
        modules[name].add_parser(subparsers)
    return parser, modules


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status."""
    parser, modules = build_parser()
    args = parser.parse_args(argv)
    try:
        status = modules[args.command].run(args)
        sys.stdout.flush()  # Here, where a reader that is gone can still be handled.
        return status
    except (UsageError, BudgetError, UnknownCodecError) as error:
        print_error(f'{args.command}: {error}')
        return 2
    except AuvImageCodecError as error:
        print_error(f'{args.command}: {error}')
        return 1
    except BrokenPipeError:
        # The reader of our output is gone (as in `| head`); keep Python from flushing to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print_error(f'{args.command}: {error}')
        return 1
    except KeyboardInterrupt:
        print_error(f'{args.command}: interrupted')
        return 130


if __name__ == '__main__':
    sys.exit(main())
