"""Pictures of flat worlds, drawn with NumPy alone."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLORS = {
    "floor": (250, 250, 247),
    "wall": (66, 72, 82),
    "goal": (120, 200, 120),
    "start": (150, 150, 150),
    "trail": (90, 150, 230),
    "agent": (214, 60, 50),
}


class Canvas:
    """A picture of positions (i, j): i runs down and j to the right.

    Args:
        height: Extent along i, in world units.
        width: Extent along j.
        scale: Pixels per unit.
        low: The position of the upper left corner.

    Attributes:
        pixels: ``[height * scale, width * scale, 3]`` uint8.
    """

    def __init__(
        self,
        height: float,
        width: float,
        scale: float,
        low: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.scale, self.low = scale, np.asarray(low, np.float64)
        shape = (round(height * scale), round(width * scale), 3)
        self.pixels = np.full(shape, COLORS["floor"], np.uint8)

    @classmethod
    def of_cells(
        cls,
        walls: NDArray[np.bool_],
        scale: int = 12,
        rim: float = 0.0,
        low: tuple[float, float] = (0.0, 0.0),
    ) -> Self:
        """Return a canvas of a world of cells.

        Args:
            walls: ``[H, W]`` bool; cell (i, j) covers positions [i, i + 1) x [j, j + 1) from
                ``low``.
            scale: Pixels per cell.
            rim: Thickness of the wall drawn around the world, in cells.
            low: The position of the upper left corner of the world.

        Returns:
            The canvas, with the walls on it.
        """
        height, width = walls.shape
        corner = (low[0] - rim, low[1] - rim)
        canvas = cls(height + 2 * rim, width + 2 * rim, scale, corner)
        filled = np.kron(walls, np.ones((scale, scale), np.bool_))
        canvas.pixels[np.pad(filled, round(rim * scale), constant_values=True)] = COLORS["wall"]
        return canvas

    def disc(self, centre: ArrayLike, radius: float, color: str) -> None:
        """Draw a disc.

        Args:
            centre: ``[2]``.
            radius: In world units.
            color: A name in ``COLORS``.
        """
        self._stamp((np.asarray(centre) - self.low) * self.scale, radius * self.scale, color)

    def line(self, points: Sequence[ArrayLike], color: str, thickness: float = 3.0) -> None:
        """Draw a line through points.

        Args:
            points: ``[2]`` each.
            color: A name in ``COLORS``.
            thickness: In pixels.
        """
        path = (np.asarray(points, np.float64).reshape(-1, 2) - self.low) * self.scale
        for first, last in zip(path[:-1], path[1:], strict=True):
            count = max(2, int(np.abs(last - first).max()) + 1)
            for point in np.linspace(first, last, count):
                self._stamp(point, thickness / 2, color)

    def _stamp(self, centre: NDArray[np.float64], radius: float, color: str) -> None:
        """Draw a disc; pixels."""
        low = np.clip(np.floor(centre - radius), 0, None).astype(int)
        high = np.ceil(centre + radius).astype(int) + 1
        part = self.pixels[low[0] : high[0], low[1] : high[1]]
        i, j = np.ogrid[low[0] : low[0] + part.shape[0], low[1] : low[1] + part.shape[1]]
        part[(i + 0.5 - centre[0]) ** 2 + (j + 0.5 - centre[1]) ** 2 <= radius**2] = COLORS[color]
