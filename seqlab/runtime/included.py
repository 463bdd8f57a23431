"""The folders of notebooks, trained runs and results that come with the project, in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).parents[1]
IN_CHECKOUT = {"notebooks": "notebooks", "zoo": "data/zoo", "results": "data"}
"""Where they lie in a checkout; in a wheel they are in the folder `included` of the package."""


def included(what: Literal["notebooks", "zoo", "results"]) -> Path:
    """The folder of the notebooks, of the zoo, or of leaderboard.csv and claims.csv.

    It is missing where the project came without it.
    """
    in_wheel = PACKAGE / "included" / what
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / IN_CHECKOUT[what]
