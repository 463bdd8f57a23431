"""Which protocols classes, instances and wrapped instances keep, found without building or running anything."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
from pathlib import Path
from typing import Protocol

import pytest
import torch
from torch import nn

from seqlab import contracts, models
from seqlab.contracts import (
    Advances,
    DescribesTokens,
    GeneratesCodes,
    ItemVectors,
    Learns,
    Prepares,
    Reasons,
    Recommends,
    Scores,
    ScoresExactly,
    Stages,
    UserStates,
    abilities,
    supports,
)  # fmt: skip
from tests.synthetic import small

PROTOCOLS = [one for one in vars(contracts).values() if inspect.isclass(one) and getattr(one, "_is_protocol", False)]
PROTOCOLS = [one for one in PROTOCOLS if one is not Protocol]


class Fragile:
    """Anything that is run or read raises."""

    def __init__(self):
        raise AssertionError("built")

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")

    def score(self, batch):
        raise AssertionError("run")

    @property
    def encode(self):
        raise AssertionError("read")

    @staticmethod
    def recommend(batch, k):
        raise AssertionError("run")

    def next_time(self, batch):
        raise AssertionError("run")

    loss = None


@contextlib.contextmanager
def one_process():
    """A process group of this process alone, as DistributedDataParallel needs one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def build(name, **settings):
    return models.build(name, 10, small(name, **settings))


def test_a_class_and_an_instance_are_looked_at_and_nothing_is_built_run_or_read():
    instance = object.__new__(Fragile)
    for system in (Fragile, instance):
        assert abilities(system) == {Scores, Recommends}  # half of PredictsTime is none of it
        assert not supports(system, UserStates) and not supports(system, Learns)
    instance.score = None
    instance.loss = lambda batch: None
    assert abilities(instance) == {Recommends, Learns} and abilities(Fragile) == {Scores, Recommends}


@pytest.mark.parametrize("name", ["sasrec", "tiger", "popularity"])
def test_a_wrapped_system_has_the_abilities_of_the_one_inside(name):
    expected = {
        "sasrec": {Recommends, Scores, UserStates, ItemVectors, Learns},
        "tiger": {Recommends, GeneratesCodes, ScoresExactly, DescribesTokens, Learns, Stages},
        "popularity": {Recommends, Scores, Prepares, Advances},
    }[name]
    model = build(name)
    assert abilities(models.system(name)) == abilities(model) == expected
    compiled = torch.compile(model)
    assert type(compiled) is not type(model) and abilities(compiled) == expected
    if name == "popularity":  # DistributedDataParallel takes no module without parameters
        return
    with one_process():
        wrapped = nn.parallel.DistributedDataParallel(model)
        assert abilities(wrapped) == abilities(torch.compile(wrapped)) == expected
        assert abilities(nn.parallel.DistributedDataParallel(compiled)) == expected


def test_parts_of_a_module_are_no_methods_of_it():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = build("sasrec")
            self.decoder = self.loss = nn.Linear(2, 2)
            self.beam = 3

        def recommend(self, batch, k): ...

    assert abilities(Holder()) == {Recommends}


@pytest.mark.parametrize(("name", "settings", "protocol", "keeps"), [
    ("rearec", {}, UserStates, True), ("rearec", {"backbone": "gru4rec"}, UserStates, True),
    ("rearec", {"backbone": "bert4rec"}, UserStates, False), ("bert4rec", {}, UserStates, False),
    ("recgpt", {}, UserStates, False), ("reg4rec", {}, UserStates, True), ("mancar", {}, UserStates, False),
    ("neural_tpp", {}, ItemVectors, True), ("neural_tpp", {"history": False}, ItemVectors, False),
    ("setrec", {}, ItemVectors, False), ("reg4rec", {}, GeneratesCodes, False), ("reg4rec", {}, ScoresExactly, True),
    ("recgpt", {}, GeneratesCodes, True), ("recgpt", {}, Scores, True), ("rearec", {"steps": 0}, Reasons, True),
])  # fmt: skip
def test_an_instance_answers_for_its_settings(name, settings, protocol, keeps):
    model = build(name, **settings)
    assert supports(model, protocol) == supports(copy.deepcopy(model), protocol) == keeps
    assert (protocol in abilities(model)) == keeps


def test_only_a_protocol_with_methods_can_be_kept():
    class Empty(Protocol):
        config: object

    class Further(Scores, Protocol):
        def explain(self, batch): ...

    for wrong in (Empty, nn.Module, Protocol, int):
        with pytest.raises(TypeError, match=f"^{wrong.__name__} is no protocol with methods"):
            supports(build("sasrec"), wrong)
    assert not supports(build("sasrec"), Further) and Further not in abilities(build("sasrec"))
    explained = type("Explained", (type(build("sasrec")),), {"explain": lambda self, batch: None})
    assert supports(explained, Further)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: one.__name__)
def test_a_protocol_has_methods_only_and_nobody_inherits_it(protocol):
    assert not protocol.__annotations__
    assert not [name for name in models.names() if protocol in models.system(name).__mro__]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: one.__name__)
def test_a_protocol_is_used_by_some_other_file(protocol):
    files = [path for path in Path(contracts.__file__).parent.rglob("*.py") if path.name != "contracts.py"]
    assert any(re.search(rf"\b{protocol.__name__}\b", path.read_text(encoding="utf-8")) for path in files)


@pytest.mark.parametrize("name", models.names())
def test_the_methods_of_a_system_take_what_its_protocols_say(name):
    """The parameters by name and order; a system may have further ones with defaults."""
    system = models.system(name)
    for protocol in abilities(system):
        for method in contracts._methods(protocol):
            promised = list(inspect.signature(getattr(protocol, method)).parameters.values())
            found = list(inspect.signature(getattr(system, method)).parameters.values())
            assert [one.name for one in found[: len(promised)]] == [one.name for one in promised], method
            assert all(one.default is not one.empty for one in found[len(promised) :]), method
            optional = {one.name for one in promised if one.default is not one.empty}
            assert optional <= {one.name for one in found if one.default is not one.empty}, method
