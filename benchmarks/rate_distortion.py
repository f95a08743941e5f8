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
Print the README's table: codecs on two sets of real underwater images, as Markdown.

Everything that ``auv-image-codec evaluate`` writes goes to one folder a set; a run that was
stopped goes on when it is started again.

    python3 benchmarks/rate_distortion.py --data ../shared/data/eval --output /tmp/benchmark
"""
import argparse
from pathlib import Path
import sys

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from auv_image_codec.cli.files import (  # noqa: E402
    open_codec, print_error, run_script, with_progress,
)
from auv_image_codec.evaluation.contenders import open_contenders  # noqa: E402
from auv_image_codec.evaluation.evaluate import (  # noqa: E402
    Evaluation, format_table, table_notes, write_figures)
from auv_image_codec.evaluation.sources import list_images  # noqa: E402


def main() -> int:
    """Evaluate all sets, and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--data', type=Path, default=ROOT.parent / 'shared' / 'data' / 'eval',
                        help='folder with the sets (default: %(default)s)')
    parser.add_argument('--sets', nargs='+', default=['test-uieb-challenging.tar', 'val-lsui.tar'],
                        help='tar files, folders or bags in it (default: %(default)s)')
    parser.add_argument('--output', type=Path, required=True, help='folder for the results')
    parser.add_argument('--codecs', nargs='+', help='default: all that are available')
    parser.add_argument('--weights', type=Path, help='default: the ones that come along')
    parser.add_argument('--enhancer-weights', type=Path, help='likewise')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rates', nargs='+', type=int, default=[500],
                        help='limits of a packet in bytes (default: 500)')
    parser.add_argument('--limit', type=int, help='the first so many images of each set only')
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--fresh', action='store_true', help='forget earlier results')
    parser.add_argument('--update', action='store_true',
                        help='keep the results of codecs that are the same, for new weights')
    args = parser.parse_args()

    failed = 0
    contenders, unavailable = open_contenders(
        args.codecs, lambda name: open_codec(name, args.weights, args.device, side='both'),
        args.enhancer_weights, args.device)
    for name, reason in unavailable.items():
        print_error(f'without {name}: {reason}')
    for name in args.sets:
        images = list_images([args.data / name], args.limit)
        evaluation = Evaluation(images, contenders, args.output / Path(name).stem, args.rates,
                                args.size, args.fresh, args.update)
        results = evaluation.run(lambda image, reason: print_error(f'{image}: {reason}'),
                                 lambda items: with_progress(items, 'image'))
        failed += len(results.failures)
        write_figures(evaluation, results, Path(name).stem)
        print(f'\n### {Path(name).stem}: {len(images) - len(results.failures)} images\n')
        print(format_table(results.summary, markdown=True))
        print(f'\n{table_notes(results.summary, args.size)}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    run_script(main)
