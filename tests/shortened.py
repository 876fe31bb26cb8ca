"""Pictures of few steps, for tests that do not look at how good they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from weightatlas.featurevis import Recipe


@contextmanager
def short_recipes() -> Iterator[None]:
    """Pictures of at most six steps."""
    with pytest.MonkeyPatch.context() as patch:
        check = Recipe.__post_init__

        def shorter(recipe: Recipe) -> None:
            check(recipe)
            object.__setattr__(recipe, "steps", min(recipe.steps, 6))

        patch.setattr(Recipe, "__post_init__", shorter)
        yield
