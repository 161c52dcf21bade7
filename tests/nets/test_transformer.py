"""Transformers: PyTorch's as the oracle, causality to the bit, padding, hidden pasts."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from torch import Tensor, nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.encoders.history import AttentionInputs, empty_past, follow, hidden_past
from hindsight_rl.nets.encoders.transformer import MultiHead, Transformer, causal
from hindsight_rl.nets.network import Attention, History, Network
from hindsight_rl.spec import Spec

SMALL = Attention(width=8, heads=2, layers=2)


def spec_of(**options: Any) -> Spec:
    return OfflineDataModule(episode_log(**options)).spec


def copy_attention(ours: MultiHead, theirs: nn.MultiheadAttention) -> None:
    parts = ours.asks, ours.keys, ours.values
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    none = torch.zeros_like(ours.asks.bias)
    theirs.in_proj_bias.copy_(torch.cat([ours.asks.bias, none, ours.values.bias]))
    theirs.out_proj.weight.copy_(ours.out.weight)
    theirs.out_proj.bias.copy_(ours.out.bias)


def test_equals_the_encoder_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, tokens = Transformer(SMALL), torch.randn(3, 5, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    with torch.no_grad():
        for block, other in zip(ours.blocks, theirs.layers, strict=True):
            copy_attention(block.own, other.self_attn)
            for one, two in ((block.net[0], other.linear1), (block.net[2], other.linear2)):
                two.load_state_dict(one.state_dict())
    mask = torch.ones(5, 5).triu(1).bool()
    found = ours(tokens, causal(torch.ones(3, 5).bool()))
    torch.testing.assert_close(found, theirs(tokens, mask=mask))
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_equals_the_decoder_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, tokens, memory = (
        Transformer(SMALL, looks=True),
        torch.randn(3, 5, 8),
        torch.randn(3, 2, 8),
    )
    layer = nn.TransformerDecoderLayer(8, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
    theirs = nn.TransformerDecoder(layer, 2, norm=nn.LayerNorm(8))
    with torch.no_grad():
        for block, other in zip(ours.blocks, theirs.layers, strict=True):
            copy_attention(block.own, other.self_attn)
            copy_attention(block.there, other.multihead_attn)
            for one, two in ((block.net[0], other.linear1), (block.net[2], other.linear2)):
                two.load_state_dict(one.state_dict())
    torch.testing.assert_close(ours(tokens, memory=memory), theirs(tokens, memory))


def test_what_a_token_looks_at() -> None:
    """Of three tokens the first is padding: it sees itself, nobody else sees it."""
    found = causal(torch.tensor([False, True, True])).int().tolist()
    assert found == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_later_tokens_leave_no_trace() -> None:
    torch.manual_seed(0)
    net, tokens = Transformer(SMALL), torch.randn(4, 6, 8)
    seen = causal(torch.ones(4, 6).bool())
    changed = tokens.clone()
    changed[:, 3:] = 1e3 * torch.randn(4, 3, 8)
    one, two = net(tokens, seen), net(changed, seen)
    assert torch.equal(one[:, :3], two[:, :3])
    assert not torch.isclose(one[:, 3:], two[:, 3:]).any(-1).all()


def test_left_padding_is_not_there() -> None:
    """A padded sequence gives what the unpadded one gives, whatever the padding holds."""
    torch.manual_seed(0)
    net, tokens = Transformer(SMALL), torch.randn(4, 6, 8)
    valid = torch.ones(4, 6).bool()
    valid[:, :2] = False
    padded = net(tokens, causal(valid))[:, 2:]
    short = net(tokens[:, 2:], causal(valid[:, 2:]))
    torch.testing.assert_close(padded, short, rtol=0, atol=1e-6)
    filled = tokens.clone()
    filled[:, :2] = 1e3
    assert torch.equal(net(filled, causal(valid))[:, 2:], padded)


# --- windows --------------------------------------------------------------------------------------


def windowed(spec: Spec, past: int, steps: int = 4) -> dict[str, Tensor]:
    """Return a past of ``steps`` slots, the last ``past`` of them valid."""
    generator = torch.Generator().manual_seed(0)
    found = empty_past(spec, steps, 3, torch.device("cpu"))
    found["observation"] = torch.randn(found["observation"].shape, generator=generator)
    if spec.action.discrete:
        found["action"] = torch.randint(0, 3, found["action"].shape, generator=generator)
    else:
        found["action"] = torch.rand(found["action"].shape, generator=generator)
    found["valid"] = (torch.arange(steps) >= steps - past).expand(3, -1).clone()
    return found


@pytest.mark.parametrize("options", [{}, {"discrete": True}, {"task": True}])
def test_a_short_past_is_a_padded_one(options: dict[str, bool]) -> None:
    spec = spec_of(**options)
    net, now = AttentionInputs(spec, Network(), 4, SMALL), torch.randn(3, 3)
    task = torch.randn(3, 2) if spec.task else None
    padded = windowed(spec, 2)
    short = {name: value[:, 2:] for name, value in padded.items()}
    found = net(now, task, padded)
    torch.testing.assert_close(found, net(now, task, short), rtol=0, atol=1e-6)
    assert not torch.isclose(found, net(now, task, windowed(spec, 3))).all()


def test_a_step_sees_neither_its_own_action_nor_what_follows() -> None:
    spec = spec_of()
    net, now, past = (
        AttentionInputs(spec, Network(), 4, SMALL),
        torch.randn(3, 3),
        windowed(spec_of(), 4),
    )
    before = net.each(now, None, past)
    past["action"][:, 2] += 1.0
    after = net.each(now, None, past)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3], after[:, 3]).all()
    past["observation"][:, 2] += 1.0
    assert torch.equal(before[:, :2], net.each(now, None, past)[:, :2])


def test_a_network_without_actions_does_not_see_them() -> None:
    spec = spec_of()
    net, now = AttentionInputs(spec, Network(), 4, SMALL, actions=False), torch.randn(3, 3)
    past = windowed(spec, 4)
    other = past | {"action": past["action"] + 1.0}
    assert torch.equal(net(now, None, past), net(now, None, other))


def test_a_past_is_followed_step_by_step() -> None:
    spec = spec_of()
    past = empty_past(spec, 2, 1, torch.device("cpu"))
    for step in (1.0, 2.0, 3.0):
        past = follow(past, observation=torch.full((1, 3), step), action=torch.full((1, 2), -step))
    assert past["observation"][0, :, 0].tolist() == [2.0, 3.0]
    assert past["action"][0, :, 0].tolist() == [-2.0, -3.0]
    assert past["valid"].tolist() == [[1.0, 1.0]]


def test_a_past_is_needed() -> None:
    with pytest.raises(ValueError, match="sees 4 past steps: pass past"):
        AttentionInputs(spec_of(), Network(), 4, SMALL)(torch.zeros(1, 3))


def test_what_is_hidden_by_hand() -> None:
    """Uniform numbers 0.2 | 0.1, 0.6 and 0.8 | 0.1, 0.6 against probabilities 0.5 and 0.3."""
    uniform = torch.tensor([[0.2, 0.1, 0.6], [0.8, 0.1, 0.6]])
    noise = torch.special.ndtri(uniform)
    past = {"valid": torch.ones(2, 2).bool(), "observation": torch.ones(2, 2, 1)}
    found = hidden_past(past, noise, whole=0.5, steps=0.3)
    assert found["valid"].tolist() == [[False, False], [False, True]]
    assert found["observation"] is past["observation"]
    nothing = hidden_past(past, noise, whole=0.0, steps=0.0)
    assert nothing["valid"].all()


# --- arguments ------------------------------------------------------------------------------------


def test_sizes_out_of_range() -> None:
    with pytest.raises(ValueError, match="must be a multiple of heads, 3"):
        Attention(width=8, heads=3)
    for name in ("width", "heads", "layers"):
        with pytest.raises(ValueError, match=r"(width|heads|layers).*must be at least 1"):
            Attention(**{name: 0})
    with pytest.raises(ValueError, match=r"history is -1, it must be at least 0"):
        History(-1)
    with pytest.raises(ValueError, match=r"hide_past .*must lie in \[0, 1\)"):
        History(1, hide_past=1.0)
    assert History.of(3) == History(3) and History.of(History(2, False)) == History(2, False)
