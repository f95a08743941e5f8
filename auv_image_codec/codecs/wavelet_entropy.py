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
Entropy coding of bit planes of wavelet coefficients, so that every prefix decodes.

Both ends walk through the same decisions (networks.bit_planes has their order) and ask the same
networks how likely each outcome is, in arithmetic that is exact on every machine.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
import torch
from torch.nn import functional

from auv_image_codec.codecs.cut_stream import Coder, StreamDecoder, StreamEncoder
from auv_image_codec.codecs.entropy import TOTAL_FREQUENCY
from auv_image_codec.networks.bit_planes import KnownLevel, PLANES, threshold
from auv_image_codec.networks.exact import ACTIVATION_STEP, BIAS_STEP, WEIGHT_STEP
from auv_image_codec.networks.tiles import (
    busy_tiles, largest_of_tiles, read_tiles, TILE, tile_count, with_tiles,
)
from auv_image_codec.networks.wavelet_context import (
    coded_before, enlarged, features, fineness, group_masks, HIDDEN_CHANNELS, MARGIN,
    WaveletContext,
)
from auv_image_codec.networks.wavelet_transform import band_masks, BANDS

KEPT_LAYOUTS = 4            # sizes of images whose layouts are kept, up to 20 MB each
LARGEST_LOGIT = 11          # beyond, a probability rounds to 0 or 1
MAGNITUDE_CLASSES = 3       # known magnitudes of 1, of 2 or 3, and larger ones
CONTEXT_PREFIX = 'context.'
ZERO, POSITIVE, NEGATIVE = range(3)     # outcomes of a significance decision
SMALL_LEVEL = 9 * 14 * 14   # coefficients: an encoder asks for several planes of it at once
LARGE_LEVEL = 9 * 96 * 96   # for one group only: the last is often behind a packet's end
USUAL_PLANES = 10           # up to here, where most packets end,
MORE_PLANES = 3             # and then so many at a time
TILED_LEVEL = 9 * 40 * 40   # coefficients from which on tiles pay: most of them hold only zeros
MOST_TILES = 0.6            # of a level: with more, all of it at once is as fast


def magnitude_class(magnitudes: np.ndarray) -> np.ndarray:
    """Return the class, 0..2, of magnitudes of at least 1, as int64."""
    return (magnitudes >= 2).astype(np.int64) + (magnitudes >= 4)


def frequencies_of(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as uint16, in units of 2**-16, never 0 or 1."""
    rounded = np.rint(np.asarray(probabilities) * TOTAL_FREQUENCY)
    return rounded.clip(1, TOTAL_FREQUENCY - 1).astype(np.uint16)


def entropy_tensors(network: WaveletContext, activity: np.ndarray,
                    refinement: np.ndarray) -> dict[str, np.ndarray]:
    """
    Return all that the entropy coder reads, in integers, as a weights file holds it.

    :param network: the trained network.
    :param activity: probability that a level becomes active, float [kinds, planes].
    :param refinement: probability of an upper half, float [kinds, planes, magnitude classes].
    :raises ValueError: if the network's sums can grow too large for exact arithmetic.
    """
    if not network.is_exact():
        raise ValueError('the sums of the context network can grow too large to be exact')
    tensors = {}
    for key, tensor in network.state_dict().items():
        step, kind = ((WEIGHT_STEP, np.int16) if key.endswith('weight') else (BIAS_STEP, np.int32))
        tensors[CONTEXT_PREFIX + key] = np.floor(
            tensor.double().numpy() / step + 0.5).astype(kind)
    logits = np.arange(-LARGEST_LOGIT, LARGEST_LOGIT + ACTIVATION_STEP, ACTIVATION_STEP)
    return {**tensors,
            'entropy_model.logistic': frequencies_of(1 / (1 + np.exp(-logits))),
            'entropy_model.activity': frequencies_of(activity),
            'entropy_model.refinement': frequencies_of(refinement)}


@dataclass(frozen=True)
class _LevelLayout:
    """
    What is the same for all images of a size.

    ``kind`` is that of fineness(); ``groups`` are masks of what is coded together, ``done`` of
    what is coded before each group, bool [groups, 9, h, w]; ``coded_sums`` is what the latter add
    to the network's first sums.

    Most of a fine level holds nothing but zeros, whose logits are known beforehand: there the
    network runs on the other tiles only. As its arithmetic is exact, the result is the same.
    """

    network: WaveletContext
    kind: int
    groups: torch.Tensor
    done: torch.Tensor
    coded_sums: torch.Tensor
    _zero_steps: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def logit_steps(self, own: torch.Tensor, above: '_Above', groups: Sequence[int]) -> np.ndarray:
        """
        Return logits as places in the logistic table, int16 [N * G, 2, 9 * h * w].

        :param own: features() of the level, float [N * G, 18, h, w].
        :param above: of N bit planes.
        :param groups: the groups, G of them in a row.
        """
        if len(above.planes) == 1 and self.is_tiled:
            magnitudes = [part[:, BANDS:] for part in (own, above.features)]   # with signs: so
            tiles = busy_tiles(torch.cat(magnitudes), MARGIN)
            if len(tiles) <= self.most_tiles:
                return self.logit_steps_of_tiles(
                    read_tiles(own, tiles, MARGIN), read_tiles(above.features, tiles, MARGIN)[:, 0],
                    int(above.planes), groups, tiles)
        return self.logit_steps_of_level(own, above, groups)

    def logit_steps_of_level(self, own: torch.Tensor, above: '_Above',
                             groups: Sequence[int]) -> np.ndarray:
        """Return the same as logit_steps(), without a look for zeros."""
        return _as_table_places(self._dense_steps(own, above, groups))

    @property
    def is_tiled(self) -> bool:
        """Whether most of the level usually holds nothing but zeros."""
        return self.groups[0].numel() >= TILED_LEVEL

    @property
    def most_tiles(self) -> float:
        """With more of them, all of the level at once is as fast."""
        return MOST_TILES * tile_count(*self.groups.shape[2:])

    def logit_steps_of_tiles(self, own: torch.Tensor, above: torch.Tensor, plane: int,
                             groups: Sequence[int], tiles: torch.Tensor) -> np.ndarray:
        """
        Return the same as logit_steps(), of one bit plane, int16 [G, 2, 9 * h * w].

        :param own: features() of the level in some tiles, as WaveletContext.of_tiles() takes them.
        :param above: of the next coarser level, likewise.
        :param plane: the bit plane.
        :param groups: the groups, G of them in a row.
        :param tiles: their numbers; all that is not zero lies in them, and MARGIN inside.
        """
        steps = torch.cat([self._steps_of_zeros(plane, group) for group in groups])
        if len(tiles):
            steps = with_tiles(steps, tiles, _steps(self.network.of_tiles(
                self.kind, own, self.coded_sums[groups[0]:groups[-1] + 1], above, plane, tiles)))
        return _as_table_places(steps)

    def _dense_steps(self, own: torch.Tensor, above: '_Above',
                     groups: Sequence[int]) -> torch.Tensor:
        return _steps(self.network(self.kind, own, self.coded_sums[groups[0]:groups[-1] + 1],
                                   above.sums, above.planes))

    def _steps_of_zeros(self, plane: int, group: int) -> torch.Tensor:
        """Return what _dense_steps() does of nothing but zeros, computed once."""
        if (plane, group) not in self._zero_steps:
            zeros = torch.zeros(1, 2 * BANDS, *self.groups.shape[2:])
            self._zero_steps[plane, group] = self._dense_steps(
                zeros, _Above(self, zeros, [plane]), [group])
        return self._zero_steps[plane, group]


class _Above:
    """
    What the next coarser level says of a level.

    ``features`` are float [N, 18, h, w], enlarged to the level; ``planes`` their bit planes,
    int64 [N].
    """

    def __init__(self, layout: _LevelLayout, features: torch.Tensor, planes: Sequence[int]):
        self._layout = layout
        self.features = features
        self.planes = torch.tensor(planes)

    @cached_property
    def sums(self) -> torch.Tensor:
        """What they add to the first sums of the level's network, [N, hidden, h, w]."""
        return self._layout.network.above_sums(self._layout.kind, self.features, self.planes)


@dataclass
class _LevelState:
    """
    What both ends know of a level.

    ``magnitudes`` and ``signs`` are float [1, 9, h, w], in thresholds of the present plane;
    ``behind`` is networks.bit_planes.KnownLevel.behind; ``active`` says whether anything is
    significant.
    """

    layout: _LevelLayout
    magnitudes: torch.Tensor
    signs: torch.Tensor
    behind: torch.Tensor
    active: bool = False

    def known_level(self) -> KnownLevel:
        """Return the same as a decoder's network takes it."""
        return KnownLevel(self.signs * torch.where(self.behind, self.magnitudes / 2,
                                                   self.magnitudes), self.behind)


@dataclass(frozen=True)
class Trial:
    """
    A stream, and what an encoder can learn from it.

    ``levels`` and ``plane`` are what decode() returns. ``costs``, of each level in each of the
    last two planes, are the bits that it costs a coefficient to become significant, with its
    sign, and not to stay zero: float [1, 9, h, w], not a number where that was not asked.
    """

    stream: bytes
    levels: list[KnownLevel]
    plane: int
    costs: list[dict[int, torch.Tensor]]


class WaveletEntropyModel:
    """
    Codes wavelet coefficients from the most to the least significant decision.

    ``network`` is its WaveletContext.

    :param tensors: of a weights file, as entropy_tensors made them.
    :raises KeyError, ValueError, RuntimeError: if they are not.
    """

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.network = WaveletContext()
        self.network.load_state_dict({
            key.removeprefix(CONTEXT_PREFIX): torch.from_numpy(
                tensor * (WEIGHT_STEP if key.endswith('weight') else BIAS_STEP)).float()
            for key, tensor in tensors.items() if key.startswith(CONTEXT_PREFIX)})
        if not self.network.is_exact():
            raise ValueError('sums of the context network can leave the exact range')
        if not self.network.is_exact_here():
            raise ValueError("this machine's convolutions round: packets would not decode")
        self.network.freeze()
        # a camera's images all have the same size
        self._layouts = lru_cache(KEPT_LAYOUTS)(self._lay_out)
        self._logistic = _table(tensors, 'logistic',
                                (round(2 * LARGEST_LOGIT / ACTIVATION_STEP) + 1,))
        # 16 bits sort faster; equal probabilities keep their order
        self._rank = np.uint16(TOTAL_FREQUENCY * (1 - self._logistic))
        self._activity = _table(tensors, 'activity', (len(HIDDEN_CHANNELS), PLANES))
        self._refinement = _table(tensors, 'refinement',
                                  (len(HIDDEN_CHANNELS), PLANES, MAGNITUDE_CLASSES))

    def encode(self, levels: list[torch.Tensor], height: int, width: int,
               max_bytes: int) -> bytes:
        """
        Return the coded bytes, at most max_bytes, of an image's coefficients.

        :param levels: float [1, 9, h, w] each, as networks.wavelet_transform.analysis returns them.
        :param height: of the image.
        :param width: of the image.
        """
        with torch.inference_mode():
            return self._encode(levels, height, width, max_bytes)[0]

    def try_out(self, levels: list[torch.Tensor], height: int, width: int,
                max_bytes: int) -> 'Trial':
        """Return encode()'s bytes, what decode() makes of them, and what decisions cost."""
        with torch.no_grad():
            stream, image = self._encode(levels, height, width, max_bytes)
            states = self._new_states(height, width)
            # an encoder's logits are the decoder's, and known already
            plane = self._walk(StreamDecoder(stream), states, image)
            costs = [{known: self._cost(image, index, known) for known in (plane - 1, plane)
                      if known >= 0} for index in range(len(levels))]
            return Trial(stream, [state.known_level() for state in states], plane, costs)

    def _encode(self, levels: list[torch.Tensor], height: int, width: int,
                max_bytes: int) -> tuple[bytes, '_KnownImage']:
        coder = StreamEncoder(max_bytes)
        states = self._new_states(height, width)
        image = _KnownImage(levels, states)
        self._walk(coder, states, image)
        return coder.stream()[:max_bytes], image

    def _cost(self, image: '_KnownImage', index: int, plane: int) -> torch.Tensor:
        """Return Trial.costs of a level and plane."""
        level = image.levels[index]
        cost = np.full(level.numel(), np.nan, np.float32)
        for group, logits in image.logits_of_groups(index, plane):
            significant, positive = (self._logistic[part[group]] for part in logits)
            sign = np.where(level.view(-1).numpy()[group] > 0, positive, 1 - positive)
            cost[group] = np.log2((1 - significant) / (significant * sign))
        return torch.from_numpy(cost).view_as(level)

    def decode(self, stream: bytes, height: int,
               width: int) -> tuple[list[KnownLevel], int]:
        """
        Return what a stream, cut anywhere, says of an image's coefficients.

        :returns: the levels, and the bit plane that the stream ends in.
        """
        with torch.inference_mode():
            states = self._new_states(height, width)
            plane = self._walk(StreamDecoder(stream), states, _UnknownImage(states))
            return [state.known_level() for state in states], plane

    def _new_states(self, height: int, width: int) -> list[_LevelState]:
        return [_LevelState(
            layout, *(torch.zeros(1, *layout.groups.shape[1:]) for _ in range(2)),
            torch.ones(1, *layout.groups.shape[1:], dtype=torch.bool))
            for layout in self._layouts(height, width)]

    def _lay_out(self, height: int, width: int) -> list[_LevelLayout]:
        masks = band_masks(height, width)
        layouts = []
        for index, mask in enumerate(masks):
            kind = fineness(index, len(masks))
            groups = group_masks(kind, *mask.shape[1:]) & mask
            done = coded_before(groups)
            layouts.append(_LevelLayout(self.network, kind, groups, done,
                                        self.network.coded_sums(kind, done.float())))
        return layouts

    def _walk(self, coder: Coder, states: list[_LevelState],
              image: '_KnownImage | _UnknownImage') -> int:
        """Make all decisions until the coder ends; return the bit plane where it did."""
        for plane in range(PLANES):
            for state in states:
                state.magnitudes *= 2
                state.behind.fill_(True)
            for step in (self._code_significance, self._code_refinement):
                for index, state in enumerate(states):
                    step(coder, state, image, index, plane)
                    if coder.ended:
                        return plane
        return plane

    def _code_significance(self, coder: Coder, state: _LevelState,
                           image: '_KnownImage | _UnknownImage', index: int, plane: int) -> None:
        if not state.active:
            active = self._activity[state.layout.kind, plane]
            outcome = coder.code(np.array([[1 - active, active]]), image.activity(index, plane))
            if coder.ended:
                return
            state.active = bool(outcome[0])
        if state.active:
            old = state.magnitudes[0] > 0
            for number, group in enumerate(state.layout.groups):
                places = (group & ~old).view(-1).numpy().nonzero()[0]
                if len(places):
                    self._code_group(coder, state, places, image.logits(index, plane, number),
                                     image.decisions(index, plane, places))
                if coder.ended:
                    return
        state.behind &= state.magnitudes > 1

    def _code_group(self, coder: Coder, state: _LevelState, places: np.ndarray,
                    logits: np.ndarray, outcomes: np.ndarray) -> None:
        """
        Code significance and sign of coefficients, the likeliest first.

        :param logits: of the level, as _LevelLayout.logit_steps returns them, [2, 9 * h * w].
        :param outcomes: what the decisions are, int32 [n].
        """
        steps = logits[0][places]
        order = np.argsort(self._rank[steps], kind='stable')
        places = places[order]
        significant = self._logistic[steps[order]]
        probabilities = np.empty((len(places), 3))
        probabilities[:, ZERO] = 1 - significant
        np.multiply(significant, self._logistic[logits[1][places]],
                    out=probabilities[:, POSITIVE])
        np.subtract(significant, probabilities[:, POSITIVE], out=probabilities[:, NEGATIVE])
        outcomes = coder.code(probabilities, outcomes[order])
        places = places[:len(outcomes)]
        state.behind.view(-1).numpy()[places] = False
        found = outcomes != ZERO
        state.magnitudes.view(-1).numpy()[places[found]] = 1
        state.signs.view(-1).numpy()[places[found]] = np.where(outcomes[found] == POSITIVE, 1, -1)

    def _code_refinement(self, coder: Coder, state: _LevelState,
                         image: '_KnownImage | _UnknownImage', index: int, plane: int) -> None:
        """Code in which half of what was known of them the magnitudes lie."""
        magnitudes = state.magnitudes.view(-1).numpy()
        places = (magnitudes > 1).nonzero()[0]
        if not len(places):
            return
        upper = self._refinement[state.layout.kind, plane][magnitude_class(magnitudes[places] // 2)]
        outcomes = coder.code(np.stack([1 - upper, upper], 1),
                              image.refinements(index, plane, places))
        places = places[:len(outcomes)]
        magnitudes[places] += outcomes
        state.behind.view(-1).numpy()[places] = False


def _steps(logits: torch.Tensor) -> torch.Tensor:
    """Return logits, which it overwrites, as places in the logistic table, int16."""
    limit = LARGEST_LOGIT / ACTIVATION_STEP
    steps = logits.div_(ACTIVATION_STEP).add_(0.5).floor_().clamp_(-limit, limit).add_(limit)
    return steps.to(torch.int16)


def _as_table_places(steps: torch.Tensor) -> np.ndarray:
    """Return steps [N, 18, h, w] with significance and sign apart, [N, 2, 9 * h * w]."""
    return steps.reshape(len(steps), 2, -1).numpy()


class _UnknownImage:
    """A decoder's view of the image: logits of what is known so far, and no decisions."""

    def __init__(self, states: list[_LevelState]):
        self._states = states
        self._above = {}            # of the level and plane in work

    def activity(self, index: int, plane: int) -> np.ndarray:
        return np.zeros(1, np.int32)

    def decisions(self, index: int, plane: int, places: np.ndarray) -> np.ndarray:
        return np.zeros(len(places), np.int32)

    refinements = decisions

    def logits(self, index: int, plane: int, group: int) -> np.ndarray:
        """Return the logits of a level for its next group, see _LevelLayout.logit_steps()."""
        state = self._states[index]
        if (index, plane) not in self._above:
            above = torch.zeros(1, 2 * BANDS, *state.signs.shape[2:])
            if index:
                parent = self._states[index - 1]
                above = enlarged(features(parent.magnitudes, parent.signs),
                                 *state.signs.shape[2:])
            self._above = {(index, plane): _Above(state.layout, above, [plane])}
        return state.layout.logit_steps(features(state.magnitudes, state.signs),
                                        self._above[index, plane], [group])[0]


class _KnownImage:
    """
    An encoder's view of the image: all decisions are known, so many logits come from one call.

    :param levels: coefficients, float [1, 9, h, w] each, coarsest first.
    """

    def __init__(self, levels: list[torch.Tensor], states: list[_LevelState]):
        self._states = states
        self.levels = levels
        self._logits = [{} for _ in levels]
        self._tile_sizes = {}
        # in units of the last threshold: halving rounds down to those of the planes before
        finest = [torch.trunc(level.view(-1) / threshold(PLANES - 1)).numpy() for level in levels]
        self._magnitudes = [np.abs(units).astype(np.int32) for units in finest]
        self._largest = [magnitudes.max() for magnitudes in self._magnitudes]
        self._outcomes = [np.where(units < 0, NEGATIVE, POSITIVE).astype(np.int32)
                          for units in finest]

    def activity(self, index: int, plane: int) -> np.ndarray:
        return np.array([self._largest[index] >> (PLANES - 1 - plane) > 0], np.int32)

    def decisions(self, index: int, plane: int, places: np.ndarray) -> np.ndarray:
        significant = self._magnitudes[index][places] >> (PLANES - 1 - plane) > 0
        return self._outcomes[index][places] * significant

    def refinements(self, index: int, plane: int, places: np.ndarray) -> np.ndarray:
        return self._magnitudes[index][places] >> (PLANES - 1 - plane) & 1

    def logits(self, index: int, plane: int, group: int) -> np.ndarray:
        """Return the logits of a level for a group, see _LevelLayout.logit_steps()."""
        known = self._logits[index]
        if (plane, group) not in known:
            size = self.levels[index].numel()
            planes = [plane]
            if size <= SMALL_LEVEL:
                planes = range(plane, USUAL_PLANES if plane < USUAL_PLANES else
                               min(plane + MORE_PLANES, PLANES))
            groups = [group]
            if size < LARGE_LEVEL:
                groups = range(len(self._states[index].layout.groups))
            rows = self._logits_of(index, planes, groups)
            known.update(zip(product(planes, groups), rows))
        return known[plane, group]

    def logits_of_groups(self, index: int, plane: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the coefficients of each group that logits() was asked for, and what it gave."""
        for number, group in enumerate(self._states[index].layout.groups):
            if (plane, number) in self._logits[index]:
                yield (group.view(-1).numpy().nonzero()[0], self._logits[index][plane, number])

    def _logits_of(self, index: int, planes: Sequence[int],
                   groups: Sequence[int]) -> np.ndarray:
        """Return the logits of a level for groups of the first plane, then of the next."""
        level, layout = self.levels[index], self._states[index].layout
        if len(planes) == 1 and layout.is_tiled:
            tiles = torch.nonzero(self._largest_of_tiles(index) >= threshold(planes[0]))[:, 0]
            if len(tiles) <= layout.most_tiles:
                return self._logits_of_tiles(index, planes[0], groups, tiles)
        before, after = _known(level, planes)
        chosen = slice(groups[0], groups[-1] + 1)
        known = torch.where(layout.done[chosen], after[:, None], before[:, None]).flatten(0, 1)
        above = torch.zeros(len(planes), 2 * BANDS, *level.shape[2:])
        if index:
            _, parent = _known(self.levels[index - 1], planes)
            signs = torch.sign(self.levels[index - 1])
            above = enlarged(features(parent, signs), *level.shape[2:])
        return layout.logit_steps_of_level(features(known, torch.sign(level)),
                                           _Above(layout, above, planes), groups)

    def _largest_of_tiles(self, index: int) -> torch.Tensor:
        """Return the largest coefficient that the network sees for each tile, float [tiles]."""
        if index not in self._tile_sizes:
            own, parent = (self.levels[number][0].abs().amax(0) for number in (index, index - 1))
            self._tile_sizes[index] = torch.maximum(
                largest_of_tiles(own, MARGIN),
                largest_of_tiles(parent, MARGIN // 2, TILE // 2))
        return self._tile_sizes[index]

    def _logits_of_tiles(self, index: int, plane: int, groups: Sequence[int],
                         tiles: torch.Tensor) -> np.ndarray:
        """Return the same where tiles hold all that is not zero; sides halve exactly here."""
        layout = self._states[index].layout
        level = read_tiles(self.levels[index], tiles, MARGIN)
        before, after = _known(level, [plane])
        done = read_tiles(layout.done[groups[0]:groups[-1] + 1], tiles, MARGIN)
        known = torch.where(done, after, before)
        own = features(known.flatten(0, 1), torch.sign(level).expand_as(known).flatten(0, 1))
        # a tile of the next coarser level is half as large
        parent = read_tiles(self.levels[index - 1], tiles, MARGIN // 2, TILE // 2)[:, 0]
        _, after = _known(parent, [plane])
        above = functional.interpolate(features(after, torch.sign(parent)), scale_factor=2)
        return layout.logit_steps_of_tiles(own.unflatten(0, known.shape[:2]), above, plane, groups,
                                           tiles)


def _known(level: torch.Tensor, planes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return magnitudes before and after the significance pass of planes.

    :param level: coefficients, float [1, 9, h, w]; of any shape if there is one plane.
    :returns: float [N, 9, h, w] of N planes, or the shape of level.
    """
    thresholds = torch.tensor([threshold(plane) for plane in planes])[:, None, None, None]
    magnitudes = torch.floor(level.abs() / thresholds)
    before = 2 * torch.floor(magnitudes / 2)
    return before, torch.maximum(before, magnitudes.clamp(max=1))


def _table(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    table = tensors[f'entropy_model.{name}']
    if table.shape != shape or table.dtype != np.uint16 or (table == 0).any():
        raise ValueError(f'entropy_model.{name} must be positive uint16 of shape {shape}')
    return table / TOTAL_FREQUENCY
