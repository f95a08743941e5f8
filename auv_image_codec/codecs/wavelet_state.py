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
"""What both ends know of the coefficients while they code them."""
from dataclasses import dataclass, field

import numpy as np
import torch

from auv_image_codec.codecs.wavelet_layout import LevelLayout
from auv_image_codec.networks.bit_planes import KnownLevel
from auv_image_codec.networks.wavelet_transform import BANDS

ZERO, POSITIVE, NEGATIVE = range(3)     # outcomes of a significance decision


@dataclass
class LevelState:
    """
    What both ends know of a level.

    ``magnitudes`` and ``signs`` are [h, w, 9], in thresholds of the present plane; ``active`` says
    whether anything is significant; ``old`` are the places (wavelet_layout.Group) that became
    significant in earlier planes, ascending, ``new`` those of this plane, ``decided`` all that it
    has reached.
    """

    layout: LevelLayout
    magnitudes: np.ndarray
    signs: np.ndarray
    active: bool = False
    old: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    new: list[np.ndarray] = field(default_factory=list)
    decided: list[np.ndarray | slice] = field(default_factory=list)

    @classmethod
    def of_nothing(cls, layout: LevelLayout) -> 'LevelState':
        """Return what is known before the first decision."""
        return cls(layout, *np.zeros((2, layout.height, layout.width, BANDS), np.float32))

    def begin_plane(self) -> None:
        """Halve the threshold."""
        if self.new:
            self.old = np.sort(np.concatenate([self.old, *self.new]))
            self.new = []
        self.decided = []
        self.old_magnitudes *= 2

    @property
    def old_magnitudes(self) -> np.ndarray:
        """Magnitudes of what became significant in earlier planes."""
        return self.magnitudes.reshape(-1)[self.layout.channels_last[self.old]]

    @old_magnitudes.setter
    def old_magnitudes(self, magnitudes: np.ndarray) -> None:
        self.magnitudes.reshape(-1)[self.layout.channels_last[self.old]] = magnitudes

    def undecided(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the Group of a number without what became significant in earlier planes."""
        group = self.layout.groups[number]
        old = self.old[self.layout.group_of[self.old] == number]
        if not len(old):
            return group.places, group.steps_at
        kept = np.ones(len(group.places), bool)
        kept[self.layout.place_in_group[old]] = False
        return group.places[kept], group.steps_at[kept]

    def add(self, places: np.ndarray, order: np.ndarray, outcomes: np.ndarray) -> None:
        """Take note of significance decisions, whose places were coded in an order."""
        self.decided.append(places if len(order) == len(places) else places[order])
        found = np.flatnonzero(outcomes != ZERO)    # faster than of integers
        if len(found):
            self.new.append(places[order[found]])
            found_at = self.layout.channels_last[self.new[-1]]
            self.magnitudes.reshape(-1)[found_at] = 1
            self.signs.reshape(-1)[found_at] = np.where(outcomes[found] == POSITIVE, 1, -1)

    def refine(self, outcomes: np.ndarray) -> None:
        """Take note of refinements of the first of the old places."""
        places = self.old[:len(outcomes)]
        self.decided.append(places)
        self.magnitudes.reshape(-1)[self.layout.channels_last[places]] += outcomes

    def known_level(self) -> KnownLevel:
        """Return the same as a decoder's network takes it."""
        behind = np.ones(self.layout.size, bool)
        for places in self.decided:
            behind[places] = False
        behind = torch.from_numpy(behind).view(1, BANDS, self.layout.height, self.layout.width)
        magnitudes, signs = (torch.from_numpy(part).permute(2, 0, 1)[None].contiguous()
                             for part in (self.magnitudes, self.signs))
        return KnownLevel(signs * torch.where(behind, magnitudes / 2, magnitudes), behind)
