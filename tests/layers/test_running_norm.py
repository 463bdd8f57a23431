"""Running statistics are those of all batches at first, and what is used in training is used in evaluation."""

import torch

from seqlab.layers.running_norm import RunningNorm


def test_it_normalises_by_the_statistics_of_the_batches_so_far():
    torch.manual_seed(0)
    norm, batches = RunningNorm(3), [torch.randn(50, 3) * 2 + at for at in range(4)]
    for at, batch in enumerate(batches, 1):
        found = norm(batch)
        mean = torch.stack([one.mean(0) for one in batches[:at]]).mean(0)
        var = torch.stack([one.var(0, correction=0) for one in batches[:at]]).mean(0)
        torch.testing.assert_close(found, (batch - mean) / (var + norm.eps).sqrt())
        assert torch.equal(norm.eval()(batch), found)
        norm.train()
    for _ in range(2000):
        norm(torch.full((5, 3), 7.0))
    torch.testing.assert_close(norm.running_mean, torch.full((3,), 7.0))
    assert torch.equal(norm(torch.zeros(0, 3)), torch.zeros(0, 3)) and norm.running_mean.isfinite().all()
