"""The folders of notebooks and trained runs that come with the project, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).parents[1]
IN_CHECKOUT = {"notebooks": "notebooks", "zoo": "data/zoo"}
"""Where they lie in a checkout; in a wheel they are in the folder `included` of the package."""


def included(what: Literal["notebooks", "zoo"]) -> Path:
    """The folder of the notebooks, or of the zoo. It is missing where the project came without it."""
    in_wheel = PACKAGE / "included" / what
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / IN_CHECKOUT[what]
