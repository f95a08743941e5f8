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
Measure what a bad link leaves of the pictures: images a minute, their age and their PSNR.

A vehicle sends images through simulated water, faster than real time, at link rates from 80 to
10,000 bit/s and losses from none to 40 % of the frames: with the codecs of this package, of which
a lost frame costs the end of an image, and as AVIF and WebP files, of which it costs the image.
Writes link.csv, link.json and link.png.

    python3 benchmarks/link.py --output /tmp/link
"""
import argparse
import csv
from dataclasses import asdict, dataclass
import json
from pathlib import Path
import sys

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from auv_image_codec.cli.files import print_error, run_script, with_progress  # noqa: E402
from auv_image_codec.codecs import codec_names, create_codec  # noqa: E402
from auv_image_codec.codecs.base import Codec  # noqa: E402
from auv_image_codec.codecs.image_file import ImageFileCodec, unavailable_reason  # noqa: E402
from auv_image_codec.codecs.packet import OVERHEAD_BYTES  # noqa: E402
from auv_image_codec.errors import AuvImageCodecError  # noqa: E402
from auv_image_codec.evaluation.metrics import psnr_db  # noqa: E402
from auv_image_codec.evaluation.sources import decode_image, list_images  # noqa: E402
from auv_image_codec.link.receiver import LinkReceiver  # noqa: E402
from auv_image_codec.link.sender import LinkSender, SenderSettings  # noqa: E402
from auv_image_codec.link.simulator import DOWN, LinkModel, SimulatedLink  # noqa: E402

FILES = ('avif', 'webp')
# Bytes of a frame by bits a second: what modems of such rates carry.
FRAME_BYTES = {80: 32, 250: 64, 1000: 64, 2500: 256, 5000: 256, 10000: 256}
LOSSES = (0.0, 0.1, 0.2, 0.3, 0.4)
PARITY = ' + parity'
REDUNDANCY = 0.5
SHOWN_RATE, SHOWN_LOSS = 1000, 0.2      # of the plots against the other one
TIMELINE_SECONDS = 150


@dataclass(frozen=True)
class Result:
    """
    What the surface saw of one run.

    :param images_per_minute: different images that were shown, in whole or in part.
    :param whole_share: of the images sent, those that arrived in whole.
    :param mean_age_s: of the image on the screen, over time, counted from its capture; before the
        first image, from the start.
    :param psnr_db: of the image on the screen against what the camera saw when it was captured,
        over time; None if there never was one.
    :param packet_bytes: mean, everything counted.
    """

    codec: str
    link_rate: int
    frame_bytes: int
    loss: float
    images_sent: int
    images_per_minute: float
    whole_share: float
    mean_age_s: float
    psnr_db: float | None
    packet_bytes: float


class Contender:
    """
    A codec, with the payloads of all images and the PSNR of every beginning of them.

    :param name: in the results.
    :param codec: it.
    :param images: uint8 [height, width, 3].
    :param max_bytes: limit of a packet.
    """

    def __init__(self, name: str, codec: Codec, images: list[np.ndarray], max_bytes: int):
        """Encode the images."""
        self.name = name
        self._codec = codec
        self._images = images
        self.payloads = [codec.payload_from_latent(codec.encode(image, max_bytes))
                         for image in images]
        self._psnr: dict[tuple[int, int], float | None] = {}

    def psnr(self, index: int, received: int) -> float | None:
        """Return the PSNR of an image of which so many bytes of payload came, None if it fails."""
        key = index, received
        if key not in self._psnr:
            image, payload = self._images[index], self.payloads[index][:received]
            try:
                latent = (self._codec.latent_from_payload(payload)
                          if received == len(self.payloads[index])
                          else self._codec.latent_from_payload_prefix(payload)[0])
                shown = self._codec.decode(latent, (image.shape[1], image.shape[0]))
                self._psnr[key] = psnr_db(image, shown)
            except AuvImageCodecError:
                self._psnr[key] = None
        return self._psnr[key]


def run(contender: Contender, rate: int, loss: float, seconds: float, redundancy: float,
        seed: int) -> tuple[Result, list[tuple[float, float, float]]]:
    """
    Send images for a while; return what came, and (time shown, capture time, PSNR) of each.

    The camera's newest image is coded when the link is free for it, as the encoder's node does.
    """
    now = 0.0
    frame_bytes = FRAME_BYTES[rate]
    sender = LinkSender(SenderSettings(frame_bytes=frame_bytes, link_rate=rate,
                                       redundancy=redundancy), lambda: now, first_number=0)
    link = SimulatedLink(LinkModel(link_rate=rate, delay=1.0, loss=loss), seed)
    receiver = LinkReceiver()
    captured: list[float] = []
    whole, shown, best = 0, [], {}
    bytes_sent = 0
    while True:
        if sender.seconds_until_next() == float('inf'):
            index = len(captured)
            captured.append(now)
            # In the place of header and checks: which image it is.
            packet = (index.to_bytes(OVERHEAD_BYTES, 'little')
                      + contender.payloads[index % len(contender.payloads)])
            bytes_sent += len(packet)
            sender.offer(packet)
        frame = sender.next_frame()
        if frame is not None:
            link.send(DOWN, frame.data, now)
        packets = [packet for _, data, time in link.poll(now) for packet in
                   receiver.push(data, time)] + receiver.poll(now)
        for packet in packets:
            receiver.shown(packet)
            index = int.from_bytes(packet.data[:OVERHEAD_BYTES], 'little')
            quality = contender.psnr(index % len(contender.payloads),
                                     len(packet.data) - OVERHEAD_BYTES)
            whole += packet.whole
            if quality is not None:
                best[index] = quality
                shown.append((now, captured[index], quality))
        events = [now + sender.seconds_until_next(), link.next_event(),
                  receiver.reassembler.next_event()]
        now = max(now, min(event for event in events if event is not None)) + 1e-6
        if now > seconds:
            break
    # The screen: what was captured last, of all that has arrived.
    screen, newest = [], -1.0
    for time, capture, quality in shown:
        if capture >= newest:
            newest = capture
            screen.append((time, capture, quality))
    ends = [time for time, _, _ in screen[1:]] + [seconds]
    spans = [(0.0, screen[0][0] if screen else seconds, 0.0)]
    spans += [(start, end, capture) for (start, capture, _), end in zip(screen, ends)]
    age = sum((end - start) * ((start + end) / 2 - capture) for start, end, capture in spans)
    time_shown = seconds - spans[0][1]
    quality = sum((end - start) * quality for (start, _, quality), end in zip(screen, ends))
    return Result(
        contender.name, rate, frame_bytes, loss, len(captured),
        60 * len(best) / seconds, whole / len(captured),
        age / seconds, quality / time_shown if time_shown else None,
        bytes_sent / len(captured)), screen


def open_contenders(names: list[str], images: list[np.ndarray],
                    max_bytes: int) -> dict[str, Contender]:
    """Return the contenders that can run here, by name; say why others cannot."""
    contenders = {}
    for name in names:
        try:
            if name in FILES:
                reason = unavailable_reason(name)
                if reason:
                    raise AuvImageCodecError(reason)
                codec: Codec = ImageFileCodec(name)
            else:
                codec = create_codec(name)
            contenders[name] = Contender(name, codec, images, max_bytes)
        except AuvImageCodecError as error:
            print_error(f'without {name}: {error}')
    return contenders


def write_figure(path: Path, results: list[Result], timelines: dict[str, list]) -> None:
    """Draw rates, losses and one stretch of time."""
    from matplotlib.figure import Figure
    palette = ('#000000', '#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00')
    names = list(dict.fromkeys(result.codec for result in results))
    codecs = list(dict.fromkeys(name.removesuffix(PARITY) for name in names))
    colours = [palette[codecs.index(name.removesuffix(PARITY)) % len(palette)] for name in names]
    figure = Figure(figsize=(13.0, 10.5), dpi=100)
    axes = figure.subplots(3, 3)
    panels = (('images_per_minute', 'images a minute'), ('mean_age_s', 'mean age, s'),
              ('psnr_db', 'PSNR over time, dB'))
    for row, (key, other, value, label) in enumerate((
            ('link_rate', 'loss', SHOWN_LOSS, 'link rate, bit/s'),
            ('loss', 'link_rate', SHOWN_RATE, 'frames lost, share'))):
        for place, (number, title) in zip(axes[row], panels):
            for name, colour in zip(names, colours):
                points = [(getattr(result, key), getattr(result, number)) for result in results
                          if result.codec == name and getattr(result, other) == value
                          and getattr(result, number) is not None]
                place.plot(*zip(*points), color=colour, marker='o', markersize=4,
                           linestyle='--' if name.endswith(PARITY) else '-', label=name)
            place.set_xlabel(label)
            place.set_title(title + (f', {100 * value:.0f} % lost' if other == 'loss'
                                     else f', {value} bit/s'), fontsize=10)
            place.grid(alpha=0.3)
            if key == 'link_rate':
                place.set_xscale('log')
            if number != 'psnr_db':
                place.set_yscale('log')
    axes[0][0].legend(fontsize=8)
    grid = axes[2][0].get_gridspec()
    for place in axes[2]:
        place.remove()
    place = figure.add_subplot(grid[2, :])
    for name, colour in zip(names, colours):
        if timelines.get(name) and not name.endswith(PARITY):
            times, _, quality = zip(*timelines[name])
            place.step(times, quality, where='post', color=colour, linewidth=2)
    place.set_xlim(0, TIMELINE_SECONDS)
    place.set_xlabel('seconds')
    place.set_title(f'PSNR of the image on the screen, dB, at {SHOWN_RATE} bit/s with '
                    f'{100 * SHOWN_LOSS:.0f} % of the frames lost and no parity', fontsize=10)
    place.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def print_table(results: list[Result]) -> None:
    """Print the runs at the shown loss and rate as Markdown."""
    print('| codec | bit/s | bytes a frame | frames lost | packet, bytes | images a minute '
          '| in whole | mean age, s | PSNR over time, dB |')
    print('|---|---|---|---|---|---|---|---|---|')
    for result in results:
        if result.loss == SHOWN_LOSS or result.link_rate == SHOWN_RATE:
            print(f'| {result.codec} | {result.link_rate} | {result.frame_bytes} '
                  f'| {100 * result.loss:.0f} % | {result.packet_bytes:.0f} '
                  f'| {result.images_per_minute:.2f} | {100 * result.whole_share:.0f} % '
                  f'| {result.mean_age_s:.1f} '
                  f'| {"" if result.psnr_db is None else f"{result.psnr_db:.2f}"} |')


def main() -> int:
    """Run every codec at every rate and loss."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--output', type=Path, required=True, help='folder for the results')
    parser.add_argument('--images', type=Path, nargs='+',
                        default=[ROOT / 'demo' / 'robosub_gate'],
                        help='folders, files, tar files or bags (default: the shipped bag)')
    parser.add_argument('--limit', type=int, default=24,
                        help='so many images, spread over all (default: %(default)s)')
    parser.add_argument('--codecs', nargs='+', default=[*codec_names(), *FILES],
                        help='default: %(default)s')
    parser.add_argument('--max-bytes', type=int, default=500,
                        help='limit of a packet (default: %(default)s)')
    parser.add_argument('--images-per-run', type=int, default=200,
                        help='so long is each run, about (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()

    sources = list_images(args.images)
    chosen = np.linspace(0, len(sources) - 1, min(args.limit, len(sources))).round().astype(int)
    images = [decode_image(sources[index].read(), 224) for index in chosen]
    contenders = open_contenders(args.codecs, images, args.max_bytes)
    if not contenders:
        print_error('no codec can run here')
        return 1
    results, timelines = [], {}
    cells = [(name, contender, rate, loss, redundancy)
             for name, contender in contenders.items()
             for redundancy in (0.0, REDUNDANCY)
             for rate in FRAME_BYTES for loss in LOSSES]
    for name, contender, rate, loss, redundancy in with_progress(cells, 'run'):
        seconds = max(4 * TIMELINE_SECONDS, args.images_per_run * 8 * args.max_bytes / rate)
        contender.name = name + (PARITY if redundancy else '')
        result, timeline = run(contender, rate, loss, seconds, redundancy, args.seed)
        results.append(result)
        if (rate, loss) == (SHOWN_RATE, SHOWN_LOSS):
            timelines[contender.name] = timeline
    args.output.mkdir(parents=True, exist_ok=True)
    with open(args.output / 'link.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(results[0])))
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)
    (args.output / 'link.json').write_text(
        json.dumps([asdict(result) for result in results], indent=2) + '\n')
    write_figure(args.output / 'link.png', results, timelines)
    print_table(results)
    return 0


if __name__ == '__main__':
    run_script(main)
