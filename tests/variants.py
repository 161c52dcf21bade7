"""Every learner as it is, and with options that make another policy of it: what walks fit.

That a resumed run ends with the same bits, that two processes are as one, that updates are one
graph, that several seeds are trained at once, that half precision learns: each is tested for all of
these, and ``docs/learners/README.md`` lists them. Imported as ``variants`` (``tests`` is on
pytest's path, and ``tools/documents.py`` puts it there).
"""

import inspect
from typing import Any, NamedTuple

import torch
from entry_logs import entry_log
from heads import SEVERAL
from small_fits import LEARNERS, log_for

from hindsight_rl.keys import IMAGINED, ORIGIN
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.encoders.encoder import Encoder
from hindsight_rl.nets.network import Attention, History, Network, NoiseNetwork
from hindsight_rl.policies.planning import Search
from hindsight_rl.training.learner import Learner
from hindsight_rl.training.limits import Ability

SMALL = Attention(width=8, heads=2, layers=1)
# Fewer rounds of the same loops: each is unrolled where updates are compiled.
FEWER = {
    "attention": SMALL,
    "flow_steps": 3,
    "context": 5,
    "search": Search(horizon=2, beam=3),
    "segment": 5,
    "burn_in": 2,
    "units": 8,
}
CAMERA = {"front": Encoder(width=5, channels=(8,), shift=1)}
SEEING = {"network": Network(hidden=(8,), encoders=CAMERA)}


class Variant(NamedTuple):
    """A learner with some arguments, on a log that it takes."""

    learner: str
    own: dict[str, Any] = {}
    """What makes it another policy."""
    images: bool = False
    """Whether it sees a camera and a vector."""
    mixed: bool = False
    """Whether every third row is imagined."""

    @property
    def kind(self) -> type[Learner]:
        """Return the class."""
        return LEARNERS[self.learner]

    @property
    def arguments(self) -> dict[str, Any]:
        """Return all arguments, those among them that keep it small."""
        taken = inspect.signature(self.kind).parameters
        return {name: value for name, value in FEWER.items() if name in taken} | self.own

    def log(self) -> Log:
        """Return its log."""
        log = entry_log(returns=self.kind.commanded) if self.images else log_for(self.kind)
        if not self.mixed:
            return log
        origin = torch.where(torch.arange(len(log)) % 3 == 0, IMAGINED, 0)
        return log.with_columns({ORIGIN: origin})


# At its discount of 0.99 a hundredth of the loss is data and the rest its own targets: the few
# updates of a test would move nothing that can be compared.
NEARER = {"CLearning": {"discount": 0.5}}
PLAIN = {name: Variant(name, NEARER.get(name, {})) for name in LEARNERS}
OTHERS = {
    **{
        f"{name} {head}": Variant(name, {"head": head})
        for name in ("BC", "IQL")
        for head in SEVERAL
    },
    "CQL origin": Variant("CQL", {"push_down": "origin"}, mixed=True),
    "DiscreteCQL origin": Variant("DiscreteCQL", {"push_down": "origin"}, mixed=True),
    "DQN quantiles": Variant("DQN", {"quantiles": 5, "double": True}),
    "DQN atoms": Variant("DQN", {"atoms": 5, "value_range": (-4.0, 4.0), "double": True}),
    "DQN munchausen": Variant("DQN", {"soft": 0.1, "munchausen": 0.9}),
    "BC history": Variant("BC", {"history": 3}),
    "BC attention": Variant("BC", {"history": History(steps=3, attention=SMALL)}),
    "BC hidden past": Variant("BC", {"history": History(steps=3, hide_past=0.3, hide_steps=0.3)}),
    "RecurrentBC lstm": Variant("RecurrentBC", {"cell": "lstm", "layers": 2}),
    "RecurrentPPO lstm": Variant("RecurrentPPO", {"cell": "lstm", "layers": 2}),
    "BC images": Variant("BC", SEEING, images=True),
    "RecurrentBC images": Variant("RecurrentBC", SEEING, images=True),
    "DecisionTransformer images": Variant("DecisionTransformer", SEEING, images=True),
    "FlowBC images": Variant(
        "FlowBC", {"network": NoiseNetwork((8,), encoders=CAMERA), "chunk": 2}, images=True
    ),
}
EVERY = PLAIN | OTHERS


def able(ability: Ability, variants: dict[str, Variant] = EVERY) -> dict[str, Variant]:
    """Return the variants whose learners do not say that they cannot do something."""
    return {name: each for name, each in variants.items() if ability not in each.kind.limits}
