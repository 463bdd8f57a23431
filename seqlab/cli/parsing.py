"""Parsing of command-line text: key=value, seeds, grids, and `-p name value`."""

from __future__ import annotations


def parse_pairs(given: list[str]) -> dict[str, str]:
    """key=value texts as a dict. Raises `ValueError` for another text."""
    for text in given:
        if "=" not in text:
            raise ValueError(f"{text!r} is no key=value.")
    return dict(text.split("=", 1) for text in given)


def parse_seeds(text: str) -> list[int]:
    """Seeds such as 0,1,2. Raises `ValueError` for another text."""
    from seqlab.runtime.settings import validate

    return list(validate(tuple[int, ...], text, "--seeds"))


def parse_arms(text: str) -> list[str]:
    """The arms in a text such as "sasrec,tiger:levels=8,8,markov": a comma before a name separates them.

    Raises `ValueError` for a text without one.
    """
    import re

    arms = [one for one in re.split(r",(?=[A-Za-z_])", text.strip().strip(",")) if one]
    if not arms:
        raise ValueError("--systems names no system; it looks like sasrec,gru4rec,markov.")
    return arms


def parse_grid(given: list[str], arms: list[str]) -> dict[str, list[str]]:
    """key=32,64 texts as lists of values. Raises `ValueError` for a key that is given twice."""
    from seqlab import models as systems
    from seqlab.decoding.settings import SETTINGS
    from seqlab.runtime.settings import field_types, split_values

    grid: dict[str, list[str]] = {}
    for key, text in (pair for one in given for pair in parse_pairs([one]).items()):
        if key in grid:
            raise ValueError(f"{key!r} is in the grid twice; give all its values at once, {key}=32,64.")
        for arm in arms:
            kinds = SETTINGS | field_types(systems.module(arm.split(":")[0]).Config)
            grid[key] = split_values(kinds.get(key), text, key)
    return grid


def join_parameter_words(words: list[str]) -> list[str]:
    """The words of a command with `-p name value`, as papermill takes it, written as `-p name=value` for typer."""
    words, joined = list(words), []
    while words:
        word = words.pop(0)
        joined.append(word)
        if word in ("-p", "--parameter") and len(words) > 1 and "=" not in words[0]:
            joined.append(f"{words.pop(0)}={words.pop(0)}")
    return joined
