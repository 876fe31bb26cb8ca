"""In which order units of a family stand: alike ones side by side, or by the angle of their maps."""

from __future__ import annotations

import numpy as np

UNLIKE = 1e-6  # a cosine below this is that of rows that share nothing


def by_similarity(profiles: np.ndarray) -> np.ndarray:
    """An order in which neighbours are alike: along the second eigenvector of the similarities' graph Laplacian.

    Args:
        profiles: ``[n, P]``, one row an item. Groups that share nothing stand one after another; rows of zeros last.

    Returns:
        int64 ``[n]``: places in that order. Of an order and its reverse, the one that begins with the smaller place.

    Source: Atkins, Boman & Hendrickson, "A Spectral Algorithm for Seriation", 1998.

    Example:
        >>> line = np.array([[0, 0, 1, 1.0], [1, 1, 0, 0], [0, 1, 1, 0]])
        >>> by_similarity(line).tolist()
        [0, 2, 1]
    """
    length = np.linalg.norm(profiles, axis=1, keepdims=True)
    unit = profiles / np.where(length > 0, length, 1)
    alike = np.clip(unit @ unit.T, 0, None)
    alike[alike < UNLIKE] = 0
    parts = [_along(alike, part) for part in _connected(alike)]
    nothing = [p for p in parts if not length[p].any()]
    return np.concatenate([p for p in parts if length[p].any()] + nothing) if parts else np.arange(0)


def _connected(alike: np.ndarray) -> list[np.ndarray]:
    """Groups that share something, each from its smallest place on; in order of that."""
    left, found = set(range(len(alike))), []
    while left:
        waiting, group = [min(left)], set()
        while waiting:
            place = waiting.pop()
            if place in group:  # many lead to it, and it is looked at once
                continue
            group.add(place)
            waiting += [int(n) for n in np.flatnonzero(alike[place]) if n not in group]
        left -= group
        found.append(np.array(sorted(group)))
    return found


def _along(alike: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The places of a connected group in order of the second eigenvector of its Laplacian."""
    if len(group) < 3:
        return group
    inner = alike[np.ix_(group, group)]
    _, vectors = np.linalg.eigh(np.diag(inner.sum(axis=1)) - inner)
    order = group[np.argsort(np.round(vectors[:, 1], 12), kind="stable")]
    return order if order[0] <= order[-1] else order[::-1]


def angles(maps: np.ndarray) -> np.ndarray:
    """The angle of the line along which each item's squared weights lie, in degrees, 0 … 180, float64 ``[n]``.

    Args:
        maps: ``[n, m, H, W]``; the second moments of an item's m maps are added up, each around its own centre.

    Returns:
        0 is horizontal, 45 rises to the right; NaN where there is no direction at all.

    Example:
        >>> bars = np.zeros((2, 1, 3, 3))
        >>> bars[0, 0, 1], bars[1, 0, [0, 1, 2], [2, 1, 0]] = 1, -1
        >>> angles(bars).tolist()
        [0.0, 45.0]
    """
    power = np.square(maps, dtype=np.float64)
    h, w = maps.shape[-2:]
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    mass = power.sum(axis=(2, 3))
    safe = np.where(mass > 0, mass, 1)[..., None, None]
    dy = y - (power * y).sum(axis=(2, 3), keepdims=True) / safe
    dx = x - (power * x).sum(axis=(2, 3), keepdims=True) / safe
    xx, yy, xy = (np.sum(power * v, axis=(1, 2, 3)) for v in (dx * dx, dy * dy, dx * dy))
    spread = np.hypot(xx - yy, 2 * xy)
    turned = np.degrees(0.5 * np.arctan2(-2 * xy, xx - yy)) % 180  # y points down
    return np.where(spread > 1e-9 * (xx + yy + (xx + yy == 0)), turned, np.nan)
