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
"""`auv-image-codec train`: train a recipe, or go on where its run stopped."""
import argparse
import math
from pathlib import Path


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'is {value}, must be at least 1')
    return value


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = subparsers.add_parser(
        'train', help='train a network from a recipe',
        description='Train a recipe of config/train/. The same command goes on where a stopped '
                    'run left off; weights are written whenever it ends.')
    parser.add_argument('recipe', type=Path, metavar='RECIPE', help='YAML file')
    parser.add_argument('--data', type=Path, default=Path('../shared/data'),
                        help="directory that the recipe's paths start from (default: %(default)s)")
    parser.add_argument('--run', type=Path,
                        help='directory of checkpoints and logs (default: runs/RECIPE)')
    parser.add_argument('--weights', type=Path,
                        help='directory to write weights to (default: weights in the run)')
    parser.add_argument('--start-from', type=Path, metavar='WEIGHTS',
                        help='directory of weights that a new run starts with: fewer images and '
                             'steps make them yours (enhancers, and the decoder of wavelet)')
    parser.add_argument('--max-minutes', type=float, default=math.inf,
                        help='stop then, with usable weights')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--devices', type=_count, default=1, metavar='N',
                        help='how many of them; each takes its share of every batch (default: '
                             '%(default)s)')
    return parser


def run(args: argparse.Namespace) -> int:
    """Train, print the model card, and return the exit status."""
    from auv_image_codec.training.tasks import load_recipe, task_class
    from auv_image_codec.training.train import train

    run_directory = args.run or Path('runs') / args.recipe.stem
    weights = args.weights or run_directory / 'weights'
    if not train(args.recipe, args.data, run_directory, weights, args.max_minutes,
                 args.device, args.devices, args.start_from):
        return 0        # not the first of several processes: that one shows the card
    card = task_class(load_recipe(args.recipe).network.type).card
    print((weights / card).read_text())
    return 0
