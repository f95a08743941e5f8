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
import csv
import io
import json
import math
from pathlib import Path
import shutil
import subprocess
import sys
import tarfile

import numpy as np
from PIL import Image
import pytest

from auv_image_codec.cli.main import main
from auv_image_codec.codecs import create_codec, decode_packet, encode_packet
from auv_image_codec.codecs.image_file import unavailable_reason
from auv_image_codec.errors import BagError, InvalidImageError, UnknownCodecError, WeightsError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.contact_sheet import ComparisonRow, write_comparison_sheet
from auv_image_codec.evaluation.contenders import CodecContender, open_contenders
from auv_image_codec.evaluation.evaluate import (
    Evaluation, format_table, sheet_numbers, summarize, table_notes)
from auv_image_codec.evaluation.metrics import mse
from auv_image_codec.evaluation.sources import decode_image, list_images, SourceError
from auv_image_codec.resources import share_directory

pytest.importorskip('torchmetrics')
BAG = share_directory() / 'demo' / 'robosub_gate'
PREFIX = 'auv-image-codec: evaluate: '
FIGURES = ('rate_distortion.png', 'per_image.png', 'contact_sheet.png')


@pytest.fixture(scope='session')
def frames() -> list[bytes]:
    """Return three JPEG files of the demo bag."""
    images = list(read_compressed_images(BAG))
    return [images[index].data for index in (0, 40, 80)]


@pytest.fixture
def folder(tmp_path, frames) -> Path:
    """Return a folder with three frames."""
    path = tmp_path / 'frames'
    path.mkdir()
    for number, frame in enumerate(frames):
        (path / f'{number}.jpg').write_bytes(frame)
    return path


@pytest.fixture(scope='module')
def results_of_frames(tmp_path_factory, frames) -> Path:
    """Return what JPEG and WebP came to for the three frames."""
    path = tmp_path_factory.mktemp('evaluated')
    (path / 'frames').mkdir()
    for number, frame in enumerate(frames):
        (path / 'frames' / f'{number}.jpg').write_bytes(frame)
    assert main(['evaluate', str(path / 'frames'), '-o', str(path / 'out'), '--codecs', 'jpeg',
                 'webp']) == 0
    return path / 'out'


@pytest.fixture
def evaluated(tmp_path, results_of_frames) -> Path:
    """Return a copy of these results, to go on from."""
    return shutil.copytree(results_of_frames, tmp_path / 'out')


def run(capsys, *arguments) -> tuple[int, list[str], list[str]]:
    """Run the command; return its status, and its lines on standard output and error."""
    capsys.readouterr()
    try:
        status = main(['evaluate', *map(str, arguments)])
    except SystemExit as leaving:       # how argparse ends
        status = leaving.code
    output, errors = capsys.readouterr()
    return status, output.splitlines(), errors.splitlines()


def read_csv(folder: Path) -> list[dict]:
    """Return the rows of an evaluation."""
    with (folder / 'per_image.csv').open(newline='') as file:
        return list(csv.DictReader(file))


# --- The whole command ---------------------------------------------------------------------------


def test_table_files_and_figures(tmp_path, capsys, folder):
    """Everything is there, agrees with itself, and holds the limits."""
    status, output, errors = run(
        capsys, folder, '-o', tmp_path / 'out', '--codecs', 'autoencoder', 'jpeg', 'webp',
        '--rates', '300', '--limit', '2')
    assert (status, errors) == (0, [])
    rows = read_csv(tmp_path / 'out')
    assert {(r['image'], r['codec'], r['max_bytes']) for r in rows} == {
        (f'frames/{image}.jpg', codec, rate) for image in (0, 1)
        for codec in ('autoencoder', 'jpeg', 'webp') for rate in ('300', '500')}
    for row in rows:
        if row['bytes'] == '':          # JPEG's tables alone take some 250 bytes
            assert (row['codec'], row['max_bytes']) == ('jpeg', '300')
            continue
        assert 0 < float(row['bytes']) <= int(row['max_bytes'])
        assert float(row['ratio']) == pytest.approx(224 * 224 * 3 / float(row['bytes']))
        assert float(row['psnr_db']) == pytest.approx(-10 * math.log10(float(row['mse'])))
        assert float(row['encode_ms']) > 0 and float(row['decode_ms']) > 0
        for name in ('ssim', 'ms_ssim', 'lpips'):
            assert 0 < float(row[name]) < 1

    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['failures'] == {}
    assert results['settings']['rates'] == [300, 500]
    model = f'{create_codec("autoencoder").model_id:08x}'
    assert model in results['settings']['codecs']['autoencoder']
    [entry] = [e for e in results['summary'] if (e['codec'], e['max_bytes']) == ('webp', 500)]
    values = [float(r['psnr_db']) for r in rows
              if (r['codec'], r['max_bytes']) == ('webp', '500')]
    assert entry['images'] == entry['fitting'] == 2
    assert entry['psnr_db']['mean'] == pytest.approx(np.mean(values))
    assert entry['psnr_db']['std'] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))

    table = '\n'.join(output)
    for text in ('2 of 2 images', 'autoencoder', 'jpeg', 'webp', 'LPIPS', 'MS-SSIM',
                 f'{entry["psnr_db"]["mean"]:.2f} ('):
        assert text in table
    for name in FIGURES:
        with Image.open(tmp_path / 'out' / name) as figure:
            assert figure.width > 500 and len(figure.convert('L').getcolors()) > 20


def test_numbers_are_those_of_the_codec(tmp_path, capsys, frames):
    """The autoencoder's row is what its packet gives, computed step by step."""
    (tmp_path / 'a.jpg').write_bytes(frames[1])
    assert run(capsys, tmp_path / 'a.jpg', '-o', tmp_path / 'out', '--codecs',
               'autoencoder')[0] == 0
    [row] = read_csv(tmp_path / 'out')
    source = np.asarray(Image.open(io.BytesIO(frames[1])).convert('RGB').resize(
        (224, 224), Image.LANCZOS))
    codec = create_codec('autoencoder')
    packet = encode_packet(codec, source)
    _, decoded = decode_packet(codec, packet)
    assert int(float(row['bytes'])) == len(packet)
    assert float(row['mse']) == pytest.approx(
        np.mean(((source.astype(float) - decoded) / 255)**2), rel=1e-9)
    kept = np.asarray(Image.open(tmp_path / 'out' / 'reconstructions' / '00000_autoencoder.png'))
    np.testing.assert_array_equal(kept, decoded)


@pytest.mark.skipif(unavailable_reason('avif') is not None, reason=str(
    unavailable_reason('avif')))
def test_formats_in_containers_have_two_rows(tmp_path, capsys, frames):
    """With the container, which is what would be sent, and without, which favours the format."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    status, output, _ = run(capsys, tmp_path / 'a.jpg', '-o', tmp_path / 'out', '--codecs', 'avif')
    assert status == 0
    file, payload = read_csv(tmp_path / 'out')
    assert (file['codec'], payload['codec']) == ('avif', 'avif-payload')
    assert max(float(r['bytes']) for r in (file, payload)) <= 500
    assert float(payload['mse']) < float(file['mse'])


@pytest.mark.parametrize('kind', ['tar', 'bag', 'two folders of one name'])
def test_other_sources(tmp_path, capsys, folder, kind):
    """The same images come from a tar file, a bag or folders."""
    sources = [tmp_path / 'frames.tar']
    if kind == 'tar':
        with tarfile.open(sources[0], 'w') as archive:
            archive.add(folder, 'frames')
    elif kind == 'bag':
        assert main(['bag', str(folder), '-o', str(tmp_path / 'bag')]) == 0
        sources = [tmp_path / 'bag']
    else:
        sources = [folder, tmp_path / 'other' / 'frames']
        sources[1].parent.mkdir()
        folder.rename(sources[1])
        folder.mkdir()
        (sources[1] / '0.jpg').rename(folder / '0.jpg')
        (folder / '1.jpg').write_bytes((sources[1] / '1.jpg').read_bytes())
        (sources[1] / '1.jpg').rename(sources[1] / '0.jpg')
    status, output, errors = run(capsys, *sources, '-o', tmp_path / 'out', '--codecs', 'jpeg',
                                 '--size', '96')
    assert (status, errors) == (0, [])
    rows = read_csv(tmp_path / 'out')
    assert len({row['image'] for row in rows}) == len(rows) == (4 if 'two' in kind else 3)
    assert {row['ms_ssim'] for row in rows} == {''}         # not defined at 96 pixels a side
    assert all(float(row['lpips']) > 0 for row in rows)


def test_limit_takes_the_first(folder):
    """In the order of names, over all sources."""
    assert [image.name for image in list_images([folder], 2)] == ['frames/0.jpg', 'frames/1.jpg']
    names = [image.name for image in list_images([folder, BAG], 5)]
    assert names[2:] == ['frames/2.jpg', *(
        f'robosub_gate/camera/image_raw/compressed/{number:06}' for number in (0, 1))]


def test_images_of_a_bag_in_any_order(frames):
    """Reading goes on where it was, and starts again where it must."""
    images = list_images([BAG])
    assert len(images) == 86
    for index, frame in ((40, 1), (80, 2), (0, 0), (40, 1)):
        assert images[index].read() == frames[frame]


# --- Going on ------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on(evaluated, capsys, folder):
    """What is complete stays, what was cut is done again, and the results are the same."""
    out = evaluated
    arguments = (folder, '-o', out, '--codecs', 'jpeg', 'webp')
    complete = (out / 'per_image.csv').read_text().splitlines()
    whole = json.loads((out / 'results.json').read_text())['summary']

    # stopped in the middle of writing the second image
    marked = complete[1].replace(complete[1].split(',')[3], '123.0', 1)
    (out / 'per_image.csv').write_text('\n'.join([complete[0], marked, *complete[2:4]]) + '\n'
                                       + complete[4][:30])
    status, output, errors = run(capsys, *arguments)
    assert (status, errors) == (0, [])
    assert output[0] == '1 of 3 images were evaluated before'
    again = (out / 'per_image.csv').read_text().splitlines()
    assert len(again) == len(complete) == 7
    assert again[1] == marked                   # it was not computed again
    names = [line.split(',')[:2] for line in again]
    assert names == [line.split(',')[:2] for line in complete]
    summary = json.loads((out / 'results.json').read_text())['summary']
    for entry, before in zip(summary, whole):
        assert entry['mse'] == before['mse']

    status, output, _ = run(capsys, *arguments)
    assert status == 0 and output[0] == '3 of 3 images were evaluated before'


def test_pictures_that_are_gone_are_made_again(evaluated, capsys, folder):
    """The contact sheet is complete after going on."""
    out = evaluated
    arguments = (folder, '-o', out, '--codecs', 'jpeg', 'webp')
    (out / 'reconstructions' / '00001_source.png').unlink()
    assert run(capsys, *arguments)[1][0] == '2 of 3 images were evaluated before'
    assert (out / 'reconstructions' / '00001_source.png').exists()


@pytest.mark.parametrize('change, reason', [
    (['--max-bytes', '450'], 'rates was [500], now [450]'), (['--size', '96'], 'size was 224'),
    (['--limit', '2'], 'images was 3, now 2'), (['--codecs', 'jpeg'], 'codecs was'),
    (['ANOTHER IMAGE'], 'other images')])
def test_other_settings_are_refused(evaluated, capsys, folder, change, reason):
    """Results are never mixed."""
    arguments = [folder, '-o', evaluated, '--codecs', 'jpeg', 'webp']
    before = (evaluated / 'per_image.csv').read_bytes()
    if change == ['ANOTHER IMAGE']:
        (folder / '2.jpg').rename(folder / '3.jpg')
        change = []
    status, _, errors = run(capsys, *arguments, *change)
    assert status == 2
    assert len(errors) == 1 and reason in errors[0] and '--fresh' in errors[0]
    assert (evaluated / 'per_image.csv').read_bytes() == before


def test_fresh_starts_anew(evaluated, capsys, folder):
    """Whatever is there goes, also where it could not have been gone on from."""
    status, output, errors = run(
        capsys, folder, '-o', evaluated, '--codecs', 'jpeg', '--limit', '1', '--fresh')
    assert (status, errors) == (0, [])
    assert 'before' not in output[0]
    [row] = read_csv(evaluated)
    assert (row['image'], row['codec']) == ('frames/0.jpg', 'jpeg')


def test_update_computes_only_what_changed(evaluated, capsys, folder):
    """With new weights or other codecs, what is the same stays, and the rest goes or is added."""
    out = evaluated
    lines = (out / 'per_image.csv').read_text().splitlines()
    marked = {line: line.replace(line.split(',')[3], '123.0', 1) for line in lines[1:]}
    (out / 'per_image.csv').write_text('\n'.join([lines[0], *marked.values()]) + '\n')
    settings = json.loads((out / 'settings.json').read_text())
    settings['codecs']['jpeg'] = 'another release'
    (out / 'settings.json').write_text(json.dumps(settings))

    status, output, errors = run(
        capsys, folder, '-o', out, '--codecs', 'autoencoder', 'webp', 'jpeg', '--update')
    assert (status, errors) == (0, [])
    assert output[0] == '3 of 3 images evaluated'
    rows = read_csv(out)
    assert [row['codec'] for row in rows] == 3 * ['autoencoder', 'webp', 'jpeg']
    assert all((row['bytes'] == '123.0') == (row['codec'] == 'webp') for row in rows)

    status, output, _ = run(capsys, folder, '-o', out, '--codecs', 'webp', '--update')
    assert output[0] == '3 of 3 images were evaluated before'
    assert [row['codec'] for row in read_csv(out)] == 3 * ['webp']
    status, _, errors = run(
        capsys, folder, '-o', out, '--codecs', 'webp', '--update', '--size', '96')
    assert status == 2 and 'size was 224' in errors[0]


# --- Bad input -----------------------------------------------------------------------------------


def test_images_that_cannot_be_read(tmp_path, capsys, folder, frames):
    """One line each, the others go on, and the status says so."""
    (folder / '00.jpg').write_bytes(frames[0][:3000])
    (folder / '01.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('no image')
    status, output, errors = run(capsys, folder, '-o', tmp_path / 'out', '--codecs', 'webp')
    assert status == 1
    assert output[0] == '3 of 6 images evaluated'
    for error, (name, reason) in zip(errors, (
            ('00.jpg', 'the image file is damaged'), ('01.png', 'the file is empty'),
            ('notes.txt', 'not an image file')), strict=True):
        assert error.startswith(f'{PREFIX}frames/{name}: {reason}')
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert len(results['failures']) == 3
    assert {entry['images'] for entry in results['summary']} == {3}
    assert len({row['image'] for row in read_csv(tmp_path / 'out')}) == 3


def test_no_image_at_all(tmp_path, capsys):
    """Nothing to average is an error."""
    (tmp_path / 'a.jpg').write_text('no image')
    status, _, errors = run(capsys, tmp_path / 'a.jpg', '-o', tmp_path / 'out', '--codecs', 'webp')
    assert status == 1
    assert errors == [f'{PREFIX}a.jpg: not an image file', f'{PREFIX}no image could be evaluated']


@pytest.mark.parametrize('arguments, message', [
    (['nowhere', '-o', 'out'], 'nowhere: no such file or folder'),
    (['empty', '-o', 'out'], 'empty: no image in it'),
    (['broken.tar', '-o', 'out'], 'broken.tar: not a tar file'),
    (['frames', '-o', 'out', '--codecs', 'mosaic'], "codec 'mosaic' is not known; known: wave"),
    (['frames', '-o', 'out', '--max-bytes', '16'], 'limits must be 17 to 4096 bytes'),
    (['frames', '-o', 'out', '--rates', '5000'], 'limits must be 17 to 4096 bytes'),
    (['frames', '-o', 'out', '--limit', '0'], '--limit must be at least 1'),
    (['frames', '-o', 'out', '--size', '-1'], '--size must be at least 1'),
    (['frames', '-o', 'frames/0.jpg'], '-o takes a folder'),
    (['frames'], '-o'),
])
def test_wrong_usage(tmp_path, monkeypatch, capsys, folder, arguments, message):
    """A mistake in the arguments ends with status 2, and a message that says which."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken.tar').write_bytes(bytes(range(256)) * 4)
    status, _, errors = run(capsys, *arguments)
    assert status == 2
    assert message in errors[-1]
    assert not (tmp_path / 'out' / 'per_image.csv').exists()


@pytest.mark.parametrize('arguments, message', [
    (['bag', '-o', 'out'], 'cannot read the bag'),
    (['frames', '-o', 'out', '--codecs', 'autoencoder', '--weights', 'bag'],
     "weights of codec 'autoencoder' cannot be read"),
])
def test_data_that_cannot_be_read(tmp_path, monkeypatch, capsys, folder, arguments, message):
    """A broken bag, and weights that are missing, end with status 1 and one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'metadata.yaml').write_text('broken')
    status, _, errors = run(capsys, *arguments)
    assert status == 1
    assert len(errors) == 1 and message in errors[0]


def test_sources_of_the_library(tmp_path):
    """The library raises what the command prints."""
    with pytest.raises(SourceError, match='no such file'):
        list_images([tmp_path / 'nowhere'])
    with pytest.raises(BagError, match='no topic /sonar'):
        list_images([BAG], topic='/sonar')


def test_decoding(tmp_path):
    """Turned upright, 8-bit RGB, whole frame; anything else is refused."""
    picture = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    exif = Image.Exif()
    exif[0x0112] = 6                            # to be turned by 90 degrees clockwise
    file = io.BytesIO()
    picture.save(file, 'PNG', exif=exif)
    np.testing.assert_array_equal(
        decode_image(file.getvalue()), np.rot90(np.asarray(picture), -1))
    assert decode_image(file.getvalue(), 7).shape == (7, 7, 3)
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(file, 'PNG')
    with pytest.raises(InvalidImageError, match='8 bits'):
        decode_image(file.getvalue())


# --- Contenders ----------------------------------------------------------------------------------


def test_what_is_not_available_is_named():
    """By default the rest is compared; what was asked for must be there."""
    def without_weights(name: str):
        raise WeightsError('no weights here')

    contenders, unavailable = open_contenders(None, without_weights)
    assert unavailable['autoencoder'] == 'no weights here'
    assert {'jpeg', 'webp'} <= {row for contender in contenders for row in contender.rows}
    with pytest.raises(WeightsError):
        open_contenders(['autoencoder', 'jpeg'], without_weights)
    with pytest.raises(UnknownCodecError, match="'mosaic'"):
        open_contenders(['jpeg', 'mosaic'], without_weights)


def test_a_name_that_is_given_twice_counts_once():
    """Also where one name stands for two rows."""
    contenders, _ = open_contenders(['webp', 'jpeg', 'webp'], create_codec)
    assert [contender.rows for contender in contenders] == [('webp',), ('jpeg',)]
    if unavailable_reason('avif') is None:
        [contender], _ = open_contenders(['avif-payload', 'avif'], create_codec)
        assert sorted(contender.rows) == ['avif', 'avif-payload']


def test_a_limit_that_the_codec_cannot_meet():
    """It is a result, not a failure."""
    contender = CodecContender(create_codec('autoencoder'))
    coded = list(contender.code(np.zeros((64, 48, 3), np.uint8), [17, 500]))
    assert coded[0].image is None and coded[0].detail == 'does not fit'
    assert coded[1].image.shape == (64, 48, 3) and coded[1].packet_bytes <= 500


# --- Statistics, table, figures ------------------------------------------------------------------


def row(codec: str, image: int, psnr_db: float | None) -> dict:
    """Return a row of which only the PSNR matters."""
    numbers = ('bytes', 'ratio', 'mse', 'ssim', 'ms_ssim', 'lpips', 'encode_ms', 'decode_ms')
    return {'image': str(image), 'codec': codec, 'max_bytes': 500, 'psnr_db': psnr_db,
            **dict.fromkeys(numbers, None if psnr_db is None else 1.0)}


def test_statistics():
    """Mean, standard deviation with n - 1, and percentiles; what does not fit is left out."""
    [full, part, none] = summarize(
        [row('a', i, float(i)) for i in range(101)]
        + [row('b', 0, 20.0), row('b', 1, None)] + [row('c', 0, None)])
    assert full['psnr_db'] == {'mean': 50, 'std': pytest.approx(np.std(np.arange(101), ddof=1)),
                               'p5': 5, 'p50': 50, 'p95': 95, 'min': 0, 'max': 100}
    assert (part['images'], part['fitting']) == (2, 1)
    assert part['psnr_db']['mean'] == 20 and part['psnr_db']['std'] == 0
    assert none['fitting'] == 0 and none['psnr_db'] is None

    lines = format_table([full, part, none]).splitlines()
    assert '50.00 (5.00..95.00)' in lines[1] and '101' in lines[1]
    assert '1 of 2' in lines[2] and '0 of 1' in lines[3]
    assert 'cannot be compared' in table_notes([full, part], 224)
    assert 'cannot be compared' not in table_notes([full, none], 224)
    markdown = format_table([full, part], markdown=True).splitlines()
    assert len({line.count('|') for line in markdown}) == 1 and len(markdown) == 4


def test_on_how_many_images_the_first_codec_is_better():
    errors = {'ours': [1, 2, 3, 4, 9], 'theirs': [2, 3, 3, 5, 1], 'few': [None, None, 4, 3, None]}
    summary = summarize([
        {**row(codec, image, None if mse is None else 30.0), 'mse': mse}
        for codec, mses in errors.items() for image, mse in enumerate(mses)])
    assert [entry['first_has_less_mse'] for entry in summary] == [None, 0.6, 0.5]
    assert ('on which ours has less squared error at 500 bytes than: theirs 60.0 %, few 50.0 %.'
            ) in table_notes(summary, 224)
    assert 'less squared error' not in table_notes(summary[:1], 224)


def test_images_without_any_error(tmp_path, folder):
    """An infinite PSNR neither ends the run nor makes JSON that nobody can read."""
    Image.new('RGB', (64, 64), (128, 128, 128)).save(folder / 'flat.png')
    contenders, _ = open_contenders(['webp'], create_codec)
    results = Evaluation(list_images([folder]), contenders, tmp_path / 'out').run()
    flat = [row for row in results.rows if row['image'].endswith('flat.png')]
    assert flat[0]['psnr_db'] == math.inf and flat[0]['mse'] == 0
    assert 'inf' in format_table(results.summary)

    def refuse(text: str):
        raise AssertionError(f'{text} is not JSON')
    content = json.loads((tmp_path / 'out' / 'results.json').read_text(), parse_constant=refuse)
    assert content['summary'][0]['psnr_db']['mean'] is None
    assert content['summary'][0]['mse']['mean'] > 0
    again = Evaluation(list_images([folder]), contenders, tmp_path / 'out')
    assert again.done == 4


def test_sheet_numbers_are_spread():
    """The first and the last image are among them."""
    assert sheet_numbers(1) == [0]
    assert sheet_numbers(3) == [0, 1, 2]
    assert sheet_numbers(101) == [0, 20, 40, 60, 80, 100]


def test_comparison_sheet(tmp_path):
    """Every codec has a column, errors show, and what is missing leaves a gap."""
    source = np.full((32, 32, 3), 128, np.uint8)
    worse = source.copy()
    worse[:, 16:] = (28, 200, 60)
    rows = [ComparisonRow(source, {'a': (source, 'text'), 'b': (worse, 'text')}, 'one'),
            ComparisonRow(source, {'a': (source, 'text')}, 'two')]
    widths = []
    for codecs in (['a'], ['a', 'b']):
        write_comparison_sheet(tmp_path / 'sheet.png', rows, codecs, 'title')
        with Image.open(tmp_path / 'sheet.png') as sheet:
            pixels = np.array(sheet.convert('RGB')).reshape(-1, 3)
            widths.append(sheet.width)
        assert ((pixels == (28, 200, 60)).all(axis=1).sum() > 500) == ('b' in codecs)
        assert ((pixels == (237, 237, 237)).all(axis=1).sum() > 500) == ('b' in codecs)
    assert widths[1] > widths[0] + 150
    with pytest.raises(ValueError, match='at least one row'):
        write_comparison_sheet(tmp_path / 'a.png', [], ['a'], 'title')
    with pytest.raises(ValueError, match='b: a source of shape'):
        write_comparison_sheet(tmp_path / 'a.png', [
            ComparisonRow(source, {'b': (worse[:8], '')}, '')], ['b'], 'title')


# --- The benchmark -------------------------------------------------------------------------------


@pytest.mark.slow
def test_benchmark_prints_the_table(tmp_path, folder):
    """One table a set, in Markdown, from the same results as the command's."""
    script = Path(__file__).resolve().parent.parent / 'benchmarks' / 'rate_distortion.py'
    if not script.exists():
        pytest.skip('the benchmarks are in the source tree alone')
    result = subprocess.run(
        [sys.executable, script, '--data', tmp_path, '--sets', 'frames', '--limit', '2',
         '--codecs', 'autoencoder', 'webp', '--output', tmp_path / 'out'],
        capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, '')
    lines = result.stdout.splitlines()
    assert '### frames: 2 images' in lines
    assert sum(line.startswith('|') for line in lines) == 4
    [autoencoder] = [line for line in lines if '| autoencoder' in line]
    rows = [r for r in read_csv(tmp_path / 'out' / 'frames') if r['codec'] == 'autoencoder']
    assert f'{np.mean([float(r["psnr_db"]) for r in rows]):.2f}' in autoencoder
    source = decode_image((folder / '0.jpg').read_bytes(), 224)
    kept = np.asarray(Image.open(
        tmp_path / 'out' / 'frames' / 'reconstructions' / '00000_autoencoder.png'))
    assert mse(source, kept) == pytest.approx(float(rows[0]['mse']))
