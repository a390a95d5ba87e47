"""The contact network: symmetric, and unmeasured pairs count for nothing."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import ContactNetwork, contact_loss


def positions():
    steps = torch.randint(1_000, 50_000, (3, 12), generator=torch.Generator().manual_seed(0))
    return steps.cumsum(1)


def test_contacts_are_symmetric_and_depend_on_distances_alone():
    net = ContactNetwork(8)
    found = net(positions())
    assert found.shape == (3, 12, 12)
    assert found.min() >= 0
    assert found.std() > 1e-3
    torch.testing.assert_close(found, found.mT)
    torch.testing.assert_close(net(positions() + 40_000_000), found)


def test_unmeasured_pairs_are_ignored():
    net = ContactNetwork(8)
    predicted = net(positions())
    measured = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(1))
    measured[1] = torch.nan
    torch.testing.assert_close(contact_loss(predicted, measured), contact_loss(predicted[[0, 2]], measured[[0, 2]]))
    nothing = contact_loss(predicted, torch.full_like(measured, torch.nan))
    assert nothing == 0
    nothing.backward()
    assert all(parameter.grad.abs().max() == 0 for parameter in net.parameters())


def test_the_network_learns_a_law_of_distance():
    net = ContactNetwork(8)
    at = positions()
    law = torch.log10(1 + 3e5 / ((at[:, :, None] - at[:, None]).abs() + 1e4))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    before = (net(at) - law).abs().mean().item()
    for _ in range(80):
        optimizer.zero_grad()
        contact_loss(net(at), law).backward()
        optimizer.step()
    found = net(at).detach()
    assert (found - law).abs().mean() < 0.2 * before
    assert torch.corrcoef(torch.stack((found.flatten(), law.flatten())))[0, 1] > 0.95


def test_a_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="width is .*; expected at least 1"):
        ContactNetwork(0)
