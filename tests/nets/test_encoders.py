"""Encoders as configuration: sizes, modules of users, weights out of a file, frozen or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.maths.draws import counters, fork
from hindsight_rl.maths.shift import shift_images, shift_offsets
from hindsight_rl.nets.encoders.encoder import Encoder, encoders_of
from hindsight_rl.nets.encoders.entries import EntryInputs, encoder_rates
from hindsight_rl.nets.encoders.image import ImageEncoder
from hindsight_rl.nets.encoders.own import OwnEncoder
from hindsight_rl.nets.encoders.shifting import shifted
from hindsight_rl.restoring import restoring
from hindsight_rl.spec import ActionSpec, Discrete, Image, Spec, Vector

STATE = Vector((2,), (1.0, -1.0), (2.0, 4.0))
ENTRIES = {
    "state": STATE,
    "front": Image((8, 10, 3)),
    "wrist": Image((2, 8, 8, 1)),
    "gear": Discrete(3),
}
SPEC = Spec(ENTRIES, ActionSpec("continuous", (1,), (-1.0,), (1.0,), (0.0,), (1.0,)))
HERE = __name__


class Means(nn.Module):
    """Means of the channels, times a weight; says its width."""

    def __init__(self, shape: list[int], factor: float = 1.0) -> None:
        super().__init__()
        self.given, self.width = shape, shape[0]
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.factor * pixels.mean(dim=(-2, -1))


class Doubled(nn.Module):
    """Twice a vector, as a map of 1 x 1; neither knows its shape nor says its width."""

    def forward(self, rows: Tensor) -> Tensor:
        return 2 * rows[..., None, None]


class Dropped(nn.Module):
    """A half of the numbers in training, all of them else."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], 4)
        self.drop = nn.Dropout()

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.drop(self.layer(pixels.flatten(1)))
        return found


def own(name: str, **options: Any) -> Encoder:
    return Encoder(module=f"{HERE}.{name}", **options)


def inputs(**encoders: Encoder) -> EntryInputs:
    return EntryInputs(SPEC, encoders=encoders)


def seen(rows: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    front, wrist = (
        torch.randint(0, 256, (rows, *shape), generator=generator).to(torch.uint8)
        for shape in ((8, 10, 3), (2, 8, 8, 1))
    )
    state, gear = torch.randn(rows, 2, generator=generator), torch.arange(rows) % 3
    return {"state": state, "front": front, "wrist": wrist, "gear": gear}


def test_sizes_of_what_is_built_in() -> None:
    """One of all images, one of its own for a camera."""
    network = inputs(images=Encoder(width=5, channels=(8,)), wrist=Encoder(width=7))
    assert network.widths == [2, 5, 7, 3] and network.width == 17
    front, wrist = network.encoders[1], network.encoders[2]
    assert isinstance(front, ImageEncoder) and len(front.blocks) == 4
    assert isinstance(wrist, ImageEncoder) and len(wrist.blocks) == 6
    assert network(seen()).shape == (3, 17)
    assert network.encode({n: v.unsqueeze(0) for n, v in seen().items()}).shape == (1, 3, 17)


@pytest.mark.parametrize("channels", [(8,), (8, 16), (32, 64, 64)])
def test_images_of_one_colour_are_no_noise(channels: tuple[int, ...]) -> None:
    """Equal numbers in single and in double precision: nothing divides rounding by rounding."""
    torch.manual_seed(0)
    encoder = ImageEncoder((16, 32, 3), 8, channels)
    black = torch.zeros(1, 16, 32, 3, dtype=torch.uint8)
    for image in (black, black + 200):
        single = encoder(image)
        double = encoder.double()(image)
        encoder.float()
        torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [(8,), (8, 16), (24, 8), (16, 32)])
def test_gradients_of_images_are_right_whatever_the_channels(channels: tuple[int, ...]) -> None:
    """Equal gradients in single and in double precision, batch after batch.

    Where a kernel writes past its memory, as that of a 1 x 1 convolution with a stride does for 8
    channels, the process crashes here.
    """
    torch.manual_seed(0)
    encoder = ImageEncoder((64, 64, 3), 8, channels)
    image = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
    weights = list(encoder.parameters())
    for _ in range(3):
        single = torch.autograd.grad(encoder(image).square().sum(), weights)
    encoder.double()
    double = torch.autograd.grad(encoder(image).square().sum(), list(encoder.parameters()))
    for found, wanted in zip(single, double, strict=True):
        assert float((found - wanted).norm()) <= 1e-4 * max(1.0, float(wanted.norm()))


def test_modules_of_users_get_what_such_modules_take() -> None:
    """Images as [N, C, H, W] in [0, 1], stacks side by side; vectors standardised."""
    network = inputs(front=own("Means", arguments={"factor": 2.0}), wrist=own("Means"),
                     state=own("Doubled"))  # fmt: skip
    assert network.widths == [2, 3, 2, 3]
    given = seen()
    found = network(given)
    front = given["front"].float().mean(dim=(1, 2)) / 255
    wrist = given["wrist"].float().mean(dim=(2, 3, 4)) / 255
    state = (given["state"] - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 4.0])
    gear = nn.functional.one_hot(given["gear"], 3).float()
    wanted = torch.cat([2 * state, 2 * front, wrist, gear], dim=-1)
    torch.testing.assert_close(found, wanted)
    assert network.encoders[1].module.given == [3, 8, 10]
    several = {name: value[None, :, None] for name, value in given.items()}
    torch.testing.assert_close(network(several), wanted[None, :, None])


def test_plain_values_make_encoders() -> None:
    found = encoders_of({"front": {"channels": [8, 16], "frozen": False}, "wrist": Encoder()})
    assert found == {"front": Encoder(channels=(8, 16)), "wrist": Encoder()}
    with pytest.raises(ValueError, match=r"entry 'front': .*unexpected keyword argument 'size'"):
        encoders_of({"front": {"size": 3}})
    with pytest.raises(ValueError, match="entry 'front': width is 0, it must be at least 1"):
        encoders_of({"front": {"width": 0}})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"channels": (12,)}, r"channels is \[12\]: give multiples of 8"),
        ({"channels": ()}, r"channels is \[\]: give multiples of 8"),
        ({"rate": 0.0}, "rate is 0.0, it must be above 0"),
        ({"rate": 1e-4, "frozen": True}, "rate is 0.0001, and the encoder is frozen"),
        ({"shift": -1}, "shift is -1 pixels, it must be at least 0"),
        ({"arguments": {"depth": 2}}, "arguments are those of a module: name it"),
        ({"module": "a.B", "width": 3}, "width and channels are of what is built in: give a.B its"),
        ({"module": "resnet"}, "module is 'resnet': give a dotted name"),
        ({"module": "a.b()"}, r"module is 'a.b\(\)': give a dotted name"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Encoder(**options)


@pytest.mark.parametrize(
    ("encoders", "told"),
    [
        ({"top": Encoder()}, r"names 'top', and the entries are state, front, wrist, gear \('im"),
        ({"state": Encoder(width=3)}, "entry 'state': an encoder without a module of its own is"),
        ({"state": own("Doubled", shift=4)}, "entry 'state': shift is for images"),
        ({"front": Encoder(module="not_there.Net")}, "encoder not_there.Net is not imported; imp"),
        ({"front": Encoder(module="pathlib.Path")}, "pathlib.Path is no class of torch.nn.Module"),
        ({"front": Encoder(module="os.system")}, "os.system is no class of torch.nn.Module"),
        ({"front": own("Means", arguments={"a": 1})}, "Means cannot be made: .*'a'"),
        ({"front": Encoder(module="torch.nn.Linear", arguments={"in_features": 4,
          "out_features": 2})}, r"torch.nn.Linear cannot encode rows of \[3, 8, 10\]: mat"),
        ({"front": Encoder(module="torch.nn.BatchNorm2d", arguments={"num_features": 3})},
         "has BatchNorm2d, whose statistics depend on the other rows of a batch: freeze"),
    ],
)  # fmt: skip
def test_encoders_must_go_with_their_entries(encoders: dict[str, Encoder], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        inputs(**encoders)


def test_a_name_alone_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint may name any module: it is not imported."""
    (tmp_path / "sneaky.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="Add --import sneaky to a command"):
        inputs(front=Encoder(module="sneaky.Net"))


# --- frozen, slow, given weights ------------------------------------------------------------------


def test_frozen_encoders_are_left_alone() -> None:
    network = inputs(front=own("Dropped", frozen=True), wrist=Encoder(frozen=True))
    network.train()
    assert network.training and not network.encoders[1].module.drop.training
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in network.named_parameters() if n.startswith("encoders.")}
    torch.testing.assert_close(network(seen()), network(seen()))
    loose = inputs(front=own("Dropped")).train()
    assert loose.encoders[1].module.drop.training
    assert isinstance(loose.encoders[1], OwnEncoder)
    norm = Encoder(module="torch.nn.BatchNorm2d", arguments={"num_features": 3}, frozen=True)
    normed = inputs(front=norm).train()
    before = normed.encoders[1].module.running_mean.clone()
    normed(seen())
    assert torch.equal(before, normed.encoders[1].module.running_mean)


def test_rates_are_those_of_the_encoders_alone() -> None:
    network = nn.ModuleList([inputs(front=own("Means", rate=1e-5), wrist=Encoder(rate=1e-4))])
    rates = encoder_rates(network)
    entries = network[0]
    assert {p for p, rate in rates.items() if rate == 1e-5} == {entries.encoders[1].module.factor}
    wrist = set(entries.encoders[2].parameters())
    assert {p for p, rate in rates.items() if rate == 1e-4} == wrist


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    torch.manual_seed(1)
    source = ImageEncoder((8, 10, 3), 5, (8,))
    path = tmp_path / "front.safetensors"
    safetensors.save_file(source.state_dict(), path)
    torch.manual_seed(2)
    options: dict[str, Any] = {"width": 5, "channels": (8,), "weights": str(path)}
    network = inputs(front=Encoder(**options))
    found = network.encoders[1].state_dict()
    assert all(torch.equal(found[name], value) for name, value in source.state_dict().items())
    with restoring():  # of a checkpoint: the file need not be there
        other = inputs(front=Encoder(**options | {"weights": "gone"}))
    assert not torch.equal(other.encoders[1].last.weight, source.last.weight)
    told = (
        r"front.safetensors is of another encoder: 'last.weight' is \[5, 16\] in it and \[6, 16\]"
    )
    with pytest.raises(ValueError, match=told):
        inputs(front=Encoder(**options | {"width": 6}))
    with pytest.raises(ValueError, match="gone cannot be read as safetensors"):
        inputs(front=Encoder(**options | {"weights": "gone"}))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="entry 'front': .* cannot be read as safetensors"):
        inputs(front=Encoder(**options))
    safetensors.save_file({"factor": torch.tensor(3.0)}, path)
    network = inputs(front=own("Means", weights=str(path), frozen=True))
    assert network.encoders[1].module.factor == 3.0


# --- shifts ---------------------------------------------------------------------------------------


def test_images_of_a_batch_are_shifted() -> None:
    """Now, next and every camera by their own offsets; a window shares that of now."""
    network = inputs(images=Encoder(shift=2), wrist=Encoder())
    assert network.shifts == {"front": 2}
    draws = counters(5, torch.arange(2), torch.arange(3))
    front = seen(12)["front"].reshape(2, 3, 2, 8, 10, 3)
    batch = TensorDict(
        {
            "draws": draws,
            "observation": {"front": front[:, :, 0], "state": torch.ones(2, 3, 2)},
            "next": {"observation": {"front": front[:, :, 1]}, "reward": torch.ones(2, 3)},
            "history": {"observation": {"front": front}},
        },
        [2, 3],
    )
    before = batch.clone()
    found = shifted(batch, network.shifts)
    stream = fork(fork(draws, "shift"), "front")
    now, later = (shift_offsets(fork(stream, name), 2) for name in ("now", "next"))
    assert not torch.equal(now, later)
    for key, offset in (
        (("observation", "front"), now),
        (("next", "observation", "front"), later),
        (("history", "observation", "front"), now),
    ):
        assert torch.equal(found[key], shift_images(before[key], offset, 2))
        assert torch.equal(batch[key], before[key])  # the batch itself is not written to
    assert found["next", "reward"] is batch["next", "reward"]
    # Any part of the chunk gives the same pictures: updates and ranks draw alike.
    part = shifted(batch[1:, 1:], network.shifts)
    assert torch.equal(part["observation", "front"], found["observation", "front"][1:, 1:])
    assert shifted(batch, {}) is batch
