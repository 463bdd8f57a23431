"""Watching and patching: what is recorded, what is replaced, and that nothing stays behind."""

import pytest
import torch
from torch import nn

import seqlab
from seqlab.tracing import Tap, taps


class Doubling(nn.Module):
    """Two layers that double, each tapped; and one tap of another kind."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Tap("hidden", "user dim") for _ in range(2))
        self.end = Tap("end", "user")

    def forward(self, x):
        for tap in self.layers:
            x = tap(2 * x)
        return self.end(x.sum(1))


MODEL, X = Doubling(), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def hooks():
    return sum(len(tap._hooks) for tap in taps(MODEL).values())


def test_taps_of_a_kind_are_stacked_as_layers_and_one_alone_is_not():
    with seqlab.watch(MODEL) as trace:
        MODEL(X)
    assert list(trace) == ["hidden", "end"] and len(trace) == 2
    assert trace["hidden"].axes == ("layer", "user", "dim")
    assert trace["hidden"].taps == ("layers.0", "layers.1")
    assert torch.equal(trace["hidden"].values, torch.stack([2 * X, 4 * X]))
    assert trace["end"].axes == ("user",) and torch.equal(trace["end"].values, 4 * X.sum(1))
    assert torch.equal(trace["layers.1"].values, 4 * X)
    assert repr(trace["end"]) == "Record(end: user=2)"


def test_the_frame_has_a_row_per_number_and_a_column_per_axis():
    with seqlab.watch(MODEL) as trace:
        MODEL(X)
    frame = trace["hidden"].frame()
    assert list(frame.columns) == ["layer", "user", "dim", "value"] and len(frame) == 12
    row = frame[(frame.layer == 1) & (frame.user == 0) & (frame.dim == 2)]
    assert row["value"].tolist() == [12.0]


def test_only_the_chosen_kinds_are_recorded():
    with seqlab.watch(MODEL, "end") as trace:
        MODEL(X)
        assert not MODEL.layers[0].active and MODEL.end.active
    assert list(trace) == ["end"] and torch.equal(trace["end"].values, 4 * X.sum(1))
    with pytest.raises(KeyError, match=r"nothing of kind 'hidden' was recorded\. Recorded: end"):
        trace["hidden"]


def test_all_passes_are_kept_along_an_axis_after_the_layers():
    with seqlab.watch(MODEL) as trace:
        for scale in (1, 10, 100):
            MODEL(scale * X)
    assert trace["hidden"].axes == ("layer", "pass", "user", "dim") and trace["end"].axes == ("pass", "user")
    by_hand = [[scale * layer * X for scale in (1, 10, 100)] for layer in (2, 4)]
    assert torch.equal(trace["hidden"].values, torch.stack([torch.stack(passes) for passes in by_hand]))
    assert torch.equal(trace["layers.1"].values, torch.stack(by_hand[1]))
    for at, single in enumerate(trace["hidden"].passes):
        assert single.axes == ("layer", "user", "dim") and single.taps == ("layers.0", "layers.1")
        assert torch.equal(single.values, torch.stack([by_hand[0][at], by_hand[1][at]]))
    assert repr(trace["end"]) == "Record(end: pass=3, user=2)" and len(trace["end"].frame()) == 6


def test_passes_of_different_sizes_are_kept_apart():
    with seqlab.watch(MODEL) as trace:
        MODEL(X)
        MODEL(X[:1])
    assert [single.values.shape for single in trace["hidden"].passes] == [(2, 2, 3), (2, 1, 3)]
    assert torch.equal(trace["layers.0"].passes[-1].values, 2 * X[:1])
    sizes = r"the 2 passes of layers\.0 \('hidden'\) have different sizes: \(2, 3\), \(1, 3\)\. Take a single pass"
    for ask in (lambda: trace["hidden"].values, trace["hidden"].frame):
        with pytest.raises(ValueError, match=sizes):
            ask()
    assert repr(trace["end"]) == "Record(end: pass user, of different sizes)"


def test_taps_passed_less_often_than_others_of_their_kind_are_read_by_their_paths():
    with seqlab.watch(MODEL) as trace:
        MODEL(X)
        MODEL.layers[0](X)
    complaint = (
        r"the taps of kind 'hidden' were passed 1 and 2 times\. Take one by its path, such as `trace\['layers\.1'\]`"
    )
    with pytest.raises(ValueError, match=complaint):
        _ = trace["hidden"].passes
    with pytest.raises(ValueError, match="the taps of kind 'hidden' have different sizes or passes"):
        _ = trace["hidden"].values
    assert torch.equal(trace["layers.0"].values, torch.stack([2 * X, X]))


def test_a_trace_is_a_copy_apart_from_the_graph():
    x = X.clone().requires_grad_()
    with seqlab.watch(MODEL) as trace:
        MODEL(x).sum().backward()
    assert not trace["end"].values.requires_grad and torch.equal(x.grad, torch.full_like(X, 4))


def test_a_patch_replaces_what_goes_on_and_a_trace_shows_it():
    plain = MODEL(X)
    with seqlab.watch(MODEL) as trace, seqlab.patch(MODEL, {"layers.0": torch.zeros_like}):
        assert float(MODEL(X).abs().sum()) == 0
    assert float(trace["layers.0"].values.abs().sum()) == 0
    assert torch.equal(MODEL(X), plain)


def test_nested_watches_and_patches_each_end_by_themselves():
    with seqlab.watch(MODEL) as outer:
        with seqlab.watch(MODEL, "end") as inner, seqlab.patch(MODEL, {"end": lambda x: x + 1}):
            MODEL(X)
        MODEL(2 * X)
    assert torch.equal(outer["end"].values, torch.stack([inner["end"].values, 8 * X.sum(1)]))
    assert torch.equal(inner["end"].values, 4 * X.sum(1) + 1)
    assert hooks() == 0


def test_an_error_leaves_nothing_behind():
    with pytest.raises(RuntimeError, match="stop"), seqlab.watch(MODEL), seqlab.patch(MODEL, {"end": torch.neg}):
        raise RuntimeError("stop")
    assert hooks() == 0


def test_an_unknown_tap_is_named_with_those_there_are_and_changes_nothing():
    complaint = r"there is no tap 'layers\.7'. This model has: layers\.0, layers\.1, end"
    with pytest.raises(KeyError, match=complaint), seqlab.patch(MODEL, {"end": torch.neg, "layers.7": torch.neg}):
        pass
    assert hooks() == 0


def test_an_axis_has_a_name_of_the_closed_set():
    with pytest.raises(ValueError, match=r"there is no axis 'position'\. There are: user, event, token"):
        Tap("hidden", "user position dim")
