"""Settings: every value and text is converted to the type of its field, or refused with one sentence."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from seqlab.optimization.options import Options
from seqlab.runtime.settings import Count, PositiveFloat, Share, settings, split_values, validate

LOSS = Literal["bce", "none"]


@pytest.mark.parametrize(
    ("hint", "value", "converted"),
    [
        (int, "3", 3), (int, 3.0, 3), (int, "-1", -1), (Count, "1", 1), (Count, np.int64(3), 3), (int, 10**30, 10**30),
        (float, "1e-3", 1e-3), (float, 1, 1.0), (float, "-2", -2.0), (Share, "0", 0.0), (Share, 1.0, 1.0),
        (bool, True, True), (bool, "true", True), (bool, "False", False), (bool, "yes", True), (bool, "0", False),
        (str, "007", "007"), (str, "none", "none"), (str | None, "none", None), (str | None, "", ""),
        (Count | None, None, None), (Count | None, "None", None), (Count | None, "5", 5), (Share | None, "0.5", 0.5),
        (LOSS, "bce", "bce"), (LOSS, "none", "none"),
        (tuple[Count, ...], "64,64", (64, 64)), (tuple[Count, ...], "8", (8,)), (tuple[Count, ...], [8, 4], (8, 4)),
        (list[int], "[1, 2]", [1, 2]), (list[int], "1, 2", [1, 2]), (list[str], "a,b", ["a", "b"]), (list, "a", ["a"]),
        (list, "['a', 2]", ["a", 2]), (dict, "{'dim': 8}", {"dim": 8}), (dict, {}, {}), (dict | None, "none", None),
    ],
)  # fmt: skip
def test_a_value_is_converted_to_the_type(hint: Any, value: Any, converted: Any) -> None:
    found = validate(hint, value, "x")
    assert found == converted and type(found) is type(converted)


@pytest.mark.parametrize(
    ("hint", "value", "allowed"),
    [
        (Count, 0, "at least 1"), (Count | None, 0, "at least 1, or none"), (Count, "-3", "at least 1"),
        (int, "1.5", "a whole number"), (int, 1.5, "a whole number"), (int, True, "a whole number"),
        (int, "wide", "a whole number"), (int, None, "a whole number"), (int, float("nan"), "a finite number"),
        (int, "9" * 5000, "a whole number"), (float, "wide", "a number"), (float, False, "a number"),
        (float, "nan", "a finite number"), (PositiveFloat, float("inf"), "a finite number"),
        (PositiveFloat, 0, "above 0"), (Share, 1.5, "at most 1"), (Share, "-.1", "at least 0"),
        (Annotated[Count, Field(multiple_of=2)], 3, "a multiple of 2"), (Annotated[Share, Field(lt=1)], 1, "below 1"),
        (bool, 1, "true or false"), (bool, "perhaps", "true or false"), (str, 5, "text"),
        (LOSS, "hinge", "'bce' or 'none'"), (LOSS, None, "'bce' or 'none'"), (LOSS, [], "'bce' or 'none'"),
        (tuple[Count, ...], 8, "a list of values separated by commas"),
        (tuple[Count, ...], "(8,8)", "a list such as 64,64, each member a whole number"),
        (tuple[Count, ...], [8, None], "a list such as 64,64, each member a whole number"),
        (tuple[Count, ...], [8, True], "a list such as 64,64, each member a whole number"),
        (tuple[Count, ...], "8,0", "a list such as 64,64, each member at least 1"),
        (list[str], [1], "a list such as 64,64, each member text"), (list[int], "[1", "a Python literal"),
        (list[int], "{1}", "a list of values separated by commas"), (dict, "[1]", "a dict"), (dict, "dim", "a dict"),
        (dict, "{" * 10_000, "a Python literal"),
    ],
)  # fmt: skip
def test_another_value_is_refused_with_one_sentence(hint: Any, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError) as refused:
        validate(hint, value, "sasrec.layers")
    assert str(refused.value) == f"sasrec.layers must be {allowed} (got {value!r})."


@settings
class Example:
    layers: Count = 2
    levels: tuple[Count, ...] = (8, 8)


def test_a_constructor_converts_and_validates() -> None:
    made = Example("3", "4,4")
    assert made == Example(3, (4, 4)) == dataclasses.replace(Example(), layers=3.0, levels=[4, 4])
    assert hash(made) == hash(Example(3, (4, 4))) and dataclasses.asdict(made) == {"layers": 3, "levels": (4, 4)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.layers = 1
    for construct in (Example, lambda **given: dataclasses.replace(made, **given)):
        with pytest.raises(ValueError, match=r"^test_settings\.layers must be at least 1 \(got 0\)\.$"):
            construct(layers=0)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"epochs": 0}, "epochs must be at least 1 (got 0)."), ({"warmup": -1}, "warmup must be at least 0 (got -1)."),
        ({"validate_users": 0}, "validate_users must be at least 1, or none (got 0)."),
        ({"learning_rate": 0}, "learning_rate must be above 0 (got 0)."), ({"tokens": 0}, "at least 1"),
        ({"clip": float("inf")}, "clip must be a finite number (got inf)."),
        ({"weight_decay": -1}, "weight_decay must be at least 0 (got -1)."), ({"decay": "exp"}, "'none' or 'cosine'"),
        ({"seed": 2**64}, "seed must be below"),
    ],
)  # fmt: skip
def test_options_that_no_training_can_have_are_refused(options: dict[str, Any], refused: str) -> None:
    with pytest.raises(ValueError) as found:
        Options(**options)
    assert str(found.value).startswith(f"options.{next(iter(options))} must be ") and refused in str(found.value)


def test_values_that_are_lists_are_separated_by_semicolons() -> None:
    assert split_values(int, "32,64", "dim") == ["32", "64"]
    assert split_values(tuple[int, ...], "64,64;8", "levels") == ["64,64", "8"]
    with pytest.raises(ValueError, match=r"separate its values by semicolons, 'levels=64,64;128,128' \(got '32,64'\)"):
        split_values(tuple[int, ...], "32,64", "levels")
