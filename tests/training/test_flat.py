import copy

import torch
from torch import nn

from manyscale.training.flat import FlatWeights


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2))


def steps(net, parameters, count=5):
    optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)
    inputs = torch.arange(12.0).reshape(4, 3)
    for _ in range(count):
        net(inputs).square().mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def test_weights_keep_their_values_and_shapes():
    plain, flat = network(), network()
    FlatWeights(flat)
    for name, value in plain.state_dict().items():
        assert torch.equal(flat.state_dict()[name], value), name


def test_training_the_array_trains_the_network_as_its_own_weights_would():
    plain, flat = network(), network()
    steps(plain, list(plain.parameters()))
    steps(flat, [FlatWeights(flat).parameter])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(flat.state_dict()[name], value)


def test_weights_that_are_loaded_land_in_the_array():
    net, other = network(), network()
    weights = FlatWeights(net)
    with torch.no_grad():
        other[0].weight.fill_(7.0)
    net.load_state_dict(copy.deepcopy(other.state_dict()))
    assert int((weights.parameter == 7.0).sum()) == 15


def test_a_shared_weight_is_there_once():
    net = network()
    shared = nn.ModuleList([net, net[0]])
    assert len(FlatWeights(shared).parameter) == 4 * 16
