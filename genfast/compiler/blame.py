"""Blame: which layer on the way from a pixel to an output that must not read it is the one that looks ahead.

A cell at pixel q of a feature map looks ahead if it reads pixel q or a later one. That alone is no fault: a vertical
stack reads its own row, and is moved down by one before anything else reads it. So a feature map is excused if
something that reads it, directly or through others, does not look ahead. The first without an excuse is to blame.
No excuse helps a sum over the own pixel and earlier ones and none later: that is a mask which lets the own pixel in,
and a map that something else reads moved down (a Diagonal BiLSTM does) was still to be read as it is.
A feature map of another size than the image has no pixels of its own: it looks ahead if it serves an output too early.
Keys and values may know their own pixel, since the mask of an attention leaves out those of a query's own pixel and of
later ones: where it does not, the attention is to blame.
"""

import numpy as np

from genfast.compiler.footprint import Link, describe, needed, reads
from genfast.compiler.program import Attend, Copy, Linear, Pointwise, Program, in_order, present, scan_of


class Blame:
    """last: footprint.latest of the generation order."""

    def __init__(self, program: Program, last: list[np.ndarray]) -> None:
        self.program, self.last = program, last
        channels, height, width = program.image_shape
        self.channels, self.size = channels, height * width
        self.makers = {step.out: step for step in program.steps}
        first = self._first_output()
        need = needed(program)
        own = np.arange(self.size) * channels + channels - 1  # up to the last colour of the own pixel
        self.excused = [False] * len(program.values)
        self.lets_in = [False] * len(program.values)
        scans, made_later = scan_of(program), set()
        for step in reversed(program.steps):
            v = step.out
            bound = np.maximum(first[v], own) if len(first[v]) == self.size else first[v]
            if isinstance(step, Linear) and len(step.taps) > 1 and len(last[v]) == self.size:
                self.lets_in[v] = bool((last[v] == own)[need[v]].all())
            if self.excused[v] or bool((last[v] < bound)[need[v]].all()):
                for read in reads(step):
                    if read.value not in made_later:  # what a recurrence reads of itself is no excuse for it
                        self.excused[read.value] = True
            if v in scans:
                made_later.add(v)

    def _first_output(self) -> list[np.ndarray]:
        """The number of the first output sub-pixel that reads each cell."""
        first = [np.full(v.positions, np.iinfo(np.int64).max) for v in self.program.values]
        for c, draw in enumerate(self.program.draws):
            there = draw.params.at >= 0
            order = np.arange(self.size) * self.channels + c
            np.minimum.at(first[draw.params.value], draw.params.at[there], order[there])
        for step, positions in reversed(list(in_order(self.program))):
            for read in reads(step):
                if len(read.at) == len(first[step.out]):
                    reader, at = present(read.at[positions])
                    np.minimum.at(first[read.value], at, first[step.out][positions][reader])
        return first

    def layer(self, path: tuple[Link, ...], channel: int, same_pixel: bool) -> str:
        """The layer to blame for a path from an input to an output of a channel. What only encodes a pixel never is."""
        if len(path) > 1 and path[-1].layer == "output" and isinstance(self.makers[path[-1].value], Copy):
            path = path[:-1]  # parameters put together for the draws: no layer of the module's
        start = next((i for i, link in enumerate(path) if not link.only), 0)
        if same_pixel:
            return self._between_colours(path, start, channel)
        start = next((i for i in range(start, len(path)) if self._sees_its_own(path[i])), start)
        passed = False
        for i in range(start, len(path)):
            value, position = path[i].value, path[i].position
            own = position * self.channels + self.channels - 1
            ahead = len(self.last[value]) != self.size or self.last[value][position] >= own
            before = passed or (i > start and self.excused[path[i - 1].value])
            passed = before and isinstance(self.makers[value], Pointwise)
            if ahead and not passed and (self.lets_in[value] or not self.excused[value]):
                return self._name(path, i)
        return path[-1].layer if path else ""

    def _sees_its_own(self, link: Link) -> bool:
        """Whether it is an attention in which a query sees its own pixel or later ones."""
        step = self.makers[link.value]
        if not isinstance(step, Attend) or not len(step.key.at) == len(self.last[step.key.value]) == self.size:
            return False
        return bool((step.key.at[link.position] >= link.position).any())

    def _name(self, path: tuple[Link, ...], i: int) -> str:
        """An elementwise step only passes on what the layer before it, of another size, was cropped to."""
        if i and isinstance(self.makers[path[i].value], Pointwise):
            before = path[i - 1]
            if len(self.last[before.value]) != self.size and before.value in self.makers:
                return before.layer
        return path[i].layer

    def _made_together(self, value: int) -> list[int]:
        """What a layer makes in the same call as a value: its neighbours in the program, until another layer runs. (One
        layer may be called in many places, and those that are made in a forward pass share a name.)"""
        made = list(self.makers)
        layers = [self.program.values[v].layer for v in made]
        at = begin = made.index(value)
        end = at + 1
        while begin and layers[begin - 1] == layers[at]:
            begin -= 1
        while end < len(made) and layers[end] == layers[at]:
            end += 1
        return made[begin:end]

    def _between_colours(self, path: tuple[Link, ...], start: int, channel: int) -> str:
        """The first layer that leaves a colour less than its share of features, those of it and of earlier colours."""
        for link in path[start:]:
            own = link.position * self.channels + channel
            if len(self.last[link.value]) != self.size or self.last[link.value][link.position] < own:
                continue
            twins = [
                v
                for v in self._made_together(link.value)
                if describe(self.makers[v]) == link.operation and len(self.last[v]) == self.size
            ]
            width = sum(self.program.values[v].channels for v in twins)
            usable = sum(self.program.values[v].channels for v in twins if self.last[v][link.position] < own)
            if usable < width * (channel + 1) // self.channels:
                return link.layer
        return path[-1].layer if path else ""
