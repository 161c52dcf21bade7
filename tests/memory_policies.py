"""Policies that remember, foresee or take noise: what walks of them play.

Imported as ``memory_policies`` (``tests`` is on pytest's path).
"""

from typing import Any

from hindsight_rl.agents.act import ACT
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.decision_transformer import DecisionTransformer
from hindsight_rl.agents.diffusion_bc import DiffusionBC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.fql import FQL
from hindsight_rl.agents.idql import IDQL
from hindsight_rl.agents.one_step_flow import OneStepFlow
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.nets.network import Attention, History
from hindsight_rl.training.learner import Learner

ATTENTION = Attention(width=8, heads=2, layers=2)
POLICIES: dict[str, tuple[type[Learner], dict[str, Any]]] = {
    "recurrent": (RecurrentBC, {"units": 12, "segment": 5, "burn_in": 1}),
    "lstm": (RecurrentBC, {"units": 6, "cell": "lstm", "layers": 2, "segment": 5, "burn_in": 1}),
    "history": (BC, {"history": 4}),
    "transformer": (BC, {"history": History(4, attention=ATTENTION)}),
    "decisions": (DecisionTransformer, {"context": 5, "max_step": 300}),
    "act": (ACT, {"chunk": 4, "execute": 3, "latent": 3}),
    "averaged act": (ACT, {"chunk": 4, "ensemble": 0.1, "latent": 3}),
    "flow": (FlowBC, {"chunk": 4, "execute": 3}),
    "diffusion": (DiffusionBC, {"chunk": 4, "execute": 3, "predict": "sample"}),
    "flow with delay": (FlowBC, {"chunk": 6, "execute": 3, "committed": 2}),
    "diffusion with delay": (DiffusionBC, {"chunk": 4, "committed": 2, "predict": "sample"}),
    "one step": (OneStepFlow, {"chunk": 4, "execute": 3}),
    "best of 8": (IDQL, {"samples": 8}),
    "implicit of 8": (IDQL, {"samples": 8, "extraction": "implicit", "generator": "diffusion"}),
    "one step led by critics": (FQL, {}),
}
