"""Where the tables of a diagram stand, and how the lines between them run.

The method is Sugiyama's layered drawing in its simplest form: a table stands one layer to the right
of what it references; a line that would cross a layer is given a place of its own in it; a few
sweeps order each layer by the average place of its neighbours (the barycentre heuristic).
Source: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures"
(IEEE Transactions on Systems, Man, and Cybernetics, 1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pglab.notebook.catalog import CatalogTable, ForeignKey

__all__ = ["HEAD", "ROW", "Box", "Layout", "Line", "place"]

HEAD, ROW, FOOT = 30.0, 22.0, 6.0
_GAP_Y, _GAP_X, _MARGIN = 28.0, 70.0, 24.0
_LANE = 12.0
_SWEEPS = 8


@dataclass
class Box:
    """A table's rectangle; without a table, the place where a long line crosses a layer."""

    table: CatalogTable | None
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0

    @property
    def middle(self) -> float:
        """Return the vertical middle."""
        return self.y + self.height / 2

    def row(self, column: str) -> float:
        """Return the vertical middle of a column's row."""
        if self.table is None:
            return self.middle
        names = [one.name for one in self.table.columns]
        return self.y + HEAD + ROW * (names.index(column) + 0.5)


@dataclass
class Line:
    """A foreign key's path, from the referencing column to the referenced one."""

    child: CatalogTable
    key: ForeignKey
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Layout:
    """Boxes and lines in pixels, and the size of the whole."""

    boxes: list[Box]
    lines: list[Line]
    width: float
    height: float


def place(tables: Sequence[CatalogTable], widths: dict[str, float]) -> Layout:
    """Return where everything goes; ``widths`` has each table's width in pixels."""
    ranks = _ranks(tables)
    layers: list[list[Box]] = [[] for _ in range(max(ranks.values(), default=0) + 1)]
    boxes = {}
    for table in tables:
        rows = len(table.columns) + len(table.wide_keys())
        box = Box(table, widths[table.name], HEAD + ROW * rows + FOOT)
        boxes[table.name] = box
        layers[ranks[table.name]].append(box)
    routes: list[tuple[Line, list[Box]]] = []
    for table in tables:
        for key in table.foreign_keys:
            if key.target not in boxes:
                continue
            # Layers that the line crosses, from the child back to its parent.
            first, last = ranks[table.name], ranks[key.target]
            step = -1 if last < first else 1
            through = [Box(None, 0.0, 6.0) for _ in range(first + step, last, step)]
            for rank, box in zip(range(first + step, last, step), through, strict=True):
                layers[rank].append(box)
            routes.append((Line(table, key), [boxes[table.name], *through, boxes[key.target]]))
    _order(layers, [route for _, route in routes])
    lanes = _count_lanes(layers, routes)
    _stand(layers, lanes)
    _align(layers)
    used: dict[int, int] = {}
    for line, route in routes:
        line.points = _path(line, route, layers, used)
    stacked = [box for layer in layers for box in layer]
    right = max((box.x + box.width for box in stacked), default=0.0)
    bottom = max((box.y + box.height for box in stacked), default=0.0)
    edge = max((x for line, _ in routes for x, _ in line.points), default=0.0)
    return Layout(
        list(boxes.values()),
        [line for line, _ in routes],
        max(right, edge) + _MARGIN,
        bottom + _MARGIN,
    )


def _ranks(tables: Sequence[CatalogTable]) -> dict[str, int]:
    """Return each table's layer: its longest way to one that references none; cycles are cut."""
    targets = {t.name: [key.target for key in t.foreign_keys] for t in tables}
    ranks: dict[str, int] = {}

    def rank(name: str, above: tuple[str, ...]) -> int:
        if name not in ranks:
            below = [
                rank(target, (*above, name)) + 1
                for target in targets[name]
                if target in targets and target != name and target not in above
            ]
            ranks[name] = max(below, default=0)
        return ranks[name]

    for table in tables:
        rank(table.name, ())
    return ranks


def _order(layers: list[list[Box]], routes: list[list[Box]]) -> None:
    neighbours: dict[int, list[Box]] = {}
    for route in routes:
        for one, other in pairwise(route):
            neighbours.setdefault(id(one), []).append(other)
            neighbours.setdefault(id(other), []).append(one)
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            places = {
                id(box): (index + 0.5) / len(column)
                for column in layers
                for index, box in enumerate(column)
            }

            def barycentre(box: Box, places: dict[int, float] = places) -> float:
                near = [places[id(other)] for other in neighbours.get(id(box), [])]
                return sum(near) / len(near) if near else places[id(box)]

            layer.sort(key=barycentre)


def _count_lanes(layers: list[list[Box]], routes: list[tuple[Line, list[Box]]]) -> list[int]:
    """Return for each layer how many lines turn in the gutter to its left."""
    rank = {id(box): index for index, layer in enumerate(layers) for box in layer}
    lanes = [0] * (len(layers) + 1)
    for _, route in routes:
        for one, other in pairwise(route):
            lanes[max(rank[id(one)], rank[id(other)])] += 1
    return lanes


def _stand(layers: list[list[Box]], lanes: list[int]) -> None:
    x = _MARGIN
    for index, layer in enumerate(layers):
        if index:
            x += _GAP_X + _LANE * lanes[index]
        y = _MARGIN
        for box in layer:
            box.x, box.y = x, y
            y += box.height + _GAP_Y
        x += max((box.width for box in layer), default=0.0)


def _align(layers: list[list[Box]]) -> None:
    """Move each layer as a whole to the middle of the tallest one."""
    heights = [layer[-1].y + layer[-1].height for layer in layers if layer]
    tallest = max(heights, default=0.0)
    for layer in layers:
        if layer:
            shift = (tallest - (layer[-1].y + layer[-1].height)) / 2
            for box in layer:
                box.y += shift


def _end(line: Line, parent: Box, layers: list[list[Box]]) -> float:
    """Return where a line ends; optional and mandatory ones to the same row end apart."""
    middle = parent.row(line.key.target_columns[0])
    kinds = {
        box.table.is_mandatory(key)
        for layer in layers
        for box in layer
        if box.table is not None
        for key in box.table.foreign_keys
        if parent.table is not None
        and (key.target, key.target_columns[0]) == (parent.table.name, line.key.target_columns[0])
    }
    if len(kinds) == 1:
        return middle
    return middle - 5 if line.child.is_mandatory(line.key) else middle + 6


def _path(
    line: Line, route: list[Box], layers: list[list[Box]], used: dict[int, int]
) -> list[tuple[float, float]]:
    rank = {id(box): index for index, layer in enumerate(layers) for box in layer}
    child, parent = route[0], route[-1]
    start, end = child.row(line.key.columns[0]), _end(line, parent, layers)
    if child is parent or rank[id(child)] == rank[id(parent)]:
        # A self reference, or a cycle that was cut inside a layer: around the right side.
        gutter = -1 - rank[id(child)]
        lane = used[gutter] = used.get(gutter, 0) + 1
        x = max(child.x + child.width, parent.x + parent.width) + 26 + _LANE * (lane - 1)
        return [
            (child.x + child.width, start),
            (x, start),
            (x, end),
            (parent.x + parent.width, end),
        ]
    forward = rank[id(child)] > rank[id(parent)]
    points = [(child.x if forward else child.x + child.width, start)]
    for one, other in pairwise(route):
        gutter = max(rank[id(one)], rank[id(other)])
        lane = used[gutter] = used.get(gutter, 0) + 1
        turn = min(box.x for box in layers[gutter]) - 32 - _LANE * (lane - 1)
        y = end if other is parent else other.middle
        points += [(turn, points[-1][1]), (turn, y)]
        if other is not parent:
            column = max(box.width for box in layers[rank[id(other)]])
            points.append((other.x if forward else other.x + column, y))
    points.append((parent.x + parent.width if forward else parent.x, end))
    return points
