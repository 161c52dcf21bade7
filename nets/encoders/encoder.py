"""How an entry of an observation is encoded, as one argument: built in, or a module of your own.

Network(encoders={"front": Encoder(width=128), "images": Encoder(shift=4)})
Network(encoders={"front": Encoder(module="my_nets.ViT", arguments={"depth": 6}, frozen=True)})
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.plugins import is_dotted

IMAGES = "images"
"""Name under which an encoder is that of all images that have none of their own."""

WIDTH, CHANNELS = 64, (32, 64, 64)


@dataclass(frozen=True)
class Encoder:
    """How one entry becomes numbers. Plain values, as a checkpoint holds them.

    Args:
        width: Numbers that an image becomes, at least 1.
        channels: Of each block of the built-in network, each of which halves the sides; multiples
            of 8.
        module: Dotted name of a ``torch.nn.Module`` of your own in the place of what is built in.
            Its module must have been imported: by you, by ``--import``, or as a plug-in.
        arguments: Of its constructor.
        weights: File of safetensors with the weights that training starts from.
        frozen: Leave the weights as they are; the module stays in evaluation mode.
        rate: Learning rate of the encoder, above 0; ``None`` for that of its network.
        shift: Pixels by which images are shifted at random while training, at least 0; 4 in DrQ.

    Raises:
        ValueError: An argument is out of range, or two do not go together.
    """

    width: int = WIDTH
    channels: tuple[int, ...] = CHANNELS
    module: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    frozen: bool = False
    rate: float | None = None
    shift: int = 0

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        object.__setattr__(self, "channels", tuple(self.channels))
        check_ranges(at_least(1, width=self.width))
        check_ranges(at_least(0, shift=self.shift), unit="pixels")
        check_ranges(above(0, rate=self.rate))
        if not self.channels or any(count < 8 or count % 8 for count in self.channels):
            raise ValueError(f"channels is {list(self.channels)}: give multiples of 8")
        if self.rate is not None and self.frozen:
            raise ValueError(f"rate is {self.rate}, and the encoder is frozen: leave one out")
        built_in = (self.width, self.channels) == (WIDTH, CHANNELS)
        if self.module is None and self.arguments:
            raise ValueError("arguments are those of a module: name it, or leave them out")
        if self.module is not None and not built_in:
            raise ValueError(
                f"width and channels are of what is built in: give {self.module} its arguments"
            )
        if self.module is not None and ("." not in self.module or not is_dotted(self.module)):
            raise ValueError(f"module is {self.module!r}: give a dotted name, my_nets.MyEncoder")


def encoders_of(given: Mapping[str, Encoder | Mapping[str, Any]]) -> dict[str, Encoder]:
    """Return encoders by entry, of encoders or of the plain values of a checkpoint.

    Args:
        given: By name of entry.

    Returns:
        Encoders by name of entry.

    Raises:
        ValueError: An argument is unknown or out of range; the message names the entry.
    """
    found: dict[str, Encoder] = {}
    for name, encoder in given.items():
        try:
            found[name] = encoder if isinstance(encoder, Encoder) else Encoder(**encoder)
        except (TypeError, ValueError) as error:
            raise ValueError(f"encoders, entry '{name}': {error}") from error
    return found
