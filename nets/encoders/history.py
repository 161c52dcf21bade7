"""Inputs with a history: the last P observations and actions beside the present ones."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.entries import EntryInputs, Observation, ungated_inputs
from hindsight_rl.nets.encoders.transformer import Transformer, causal
from hindsight_rl.nets.network import Attention, History, Network
from hindsight_rl.spec import Spec

Past = Mapping[str, Tensor]
"""``observation [..., P, O]``, ``action [..., P, A]`` (or ``[..., P]`` int64), ``valid [..., P]``:
what a batch holds under ``"history"``, and the state of a policy that acts. Of several entries a
batch holds ``observation`` by entry, and the state their ``features [..., P, F]``."""

FEATURES = "features"


class PastActions(nn.Module):
    """Actions as numbers: policy units, or one number per choice where they are discrete.

    Args:
        spec: The data's spec.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.scale, self.width = ActionScale(spec.action), spec.action.width

    def forward(self, action: Tensor, valid: Tensor) -> Tensor:
        """Return numbers ``[..., P, A]`` of past actions, 0 for steps that are not valid."""
        if self.scale.discrete:
            return nn.functional.one_hot(action, self.width).to(valid.dtype) * valid
        return self.scale.to_policy(action) * valid


class PastInputs(nn.Module):
    """What encodes the present, and the steps before it in the same way.

    A policy that acts keeps what it has seen: a flat vector as it is, several entries as the
    features that their encoders made, a few numbers where frames were many. Each is encoded once.

    Args:
        spec: The data's spec.
        network: Inputs, see :class:`Network`.
        history: P, at least 1.

    Raises:
        ValueError: No encoder takes the observation, or ``history`` is below 1.
    """

    def __init__(self, spec: Spec, network: Network, history: int) -> None:
        super().__init__()
        if history < 1:
            raise ValueError(f"history is {history}, it must be at least 1")
        self.history = history
        self.now = ungated_inputs(spec, network)

    def before(self, past: Past | None) -> tuple[Past, Tensor]:
        """Return the past, and the features of what was seen, ``[..., P, F]``.

        Args:
            past: The last steps.

        Returns:
            Both.

        Raises:
            ValueError: The past is missing.
        """
        if past is None:
            raise ValueError(f"this network sees {self.history} past steps: pass past")
        if FEATURES in past.keys():  # noqa: SIM118 (a TensorDict knows no other way)
            return past, past[FEATURES]
        return past, self.encode(past["observation"])

    def kept(self, observation: Observation, features: Tensor) -> dict[str, Tensor]:
        """Return what is remembered of a step, by its name in a past.

        Args:
            observation: ``[n, O]``, or ``[n, ...]`` by entry.
            features: ``[n, F]``, what it was encoded to.

        Returns:
            One of the two.
        """
        if isinstance(observation, Tensor):
            return {"observation": observation}
        return {FEATURES: features}

    @property
    def features(self) -> int:
        """F where features are remembered, 0 where observations are."""
        return self.now.observed if isinstance(self.now, EntryInputs) else 0

    def forward(
        self, observation: Observation, task: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """Return features of the present and the past.

        Args:
            observation: ``[..., O]``, or ``[..., *shape]`` by entry.
            task: ``[..., Z]`` where the spec has a task.
            past: The last P steps.

        Returns:
            ``[..., D]``.
        """
        return self.joined(self.encode(observation), task, past)

    def encode(self, observation: Observation) -> Tensor:
        """Return the features of the present alone, ``[..., F]``."""
        if isinstance(self.now, EntryInputs):
            return self.now.encode(observation)
        if not isinstance(observation, Tensor):
            raise ValueError("this network takes one flat vector, not entries")
        return self.now.encode(observation)

    @abstractmethod
    def joined(self, features: Tensor, task: Tensor | None, past: Past | None) -> Tensor:
        """Return features of the present and the past, the present being encoded already.

        Args:
            features: ``[..., F]``.
            task: ``[..., Z]`` where the spec has a task.
            past: The last P steps.

        Returns:
            ``[..., D]``.
        """


class HistoryInputs(PastInputs):
    """Observation, task, and the last P observations and actions, side by side.

    Observations are standardised, actions are in policy units (one number per choice where they
    are discrete). Steps before the episode's first are 0, and a flag per step says so.

    Args:
        spec: The data's spec.
        network: Scale of the task, and frequencies: see :class:`Inputs`.
        history: P, at least 1.
        actions: Whether past actions are seen. A policy that sees them may only repeat them: the
            demonstrator's next action is most often close to the last one.

    Raises:
        ValueError: The observation is no vector, or ``history`` is below 1.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network,
        history: int,
        *,
        actions: bool = True,
    ) -> None:
        super().__init__(spec, network, history)
        self.actions = actions
        self.acted = PastActions(spec)
        seen = self.now.observed + (self.acted.width if actions else 0) + 1
        self.width = self.now.width + history * seen

    def joined(self, features: Tensor, task: Tensor | None, past: Past | None) -> Tensor:
        """Return features ``[..., D]``, see :meth:`PastInputs.joined`."""
        past, seen = self.before(past)
        now = self.now.join(features, task)
        valid = past["valid"].to(now.dtype).unsqueeze(-1)
        parts = [seen * valid]
        if self.actions:
            parts.append(self.acted(past["action"], valid))
        steps = torch.cat([*parts, valid], dim=-1)
        return torch.cat([now, steps.flatten(-2)], dim=-1)


class AttentionInputs(PastInputs):
    """A token for each of the last P steps and the present, through a transformer.

    A token holds the observation of its step, the task, and the action before it. Its place in the
    window is learned; the present is the last one, however few steps there are.

    Args:
        spec: The data's spec.
        network: Scale of the task, and frequencies: see :class:`Inputs`.
        history: P, at least 1.
        attention: Size of the transformer.
        actions: Whether past actions are seen, see :class:`HistoryInputs`.

    Raises:
        ValueError: The observation is no vector, or ``history`` is below 1.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network,
        history: int,
        attention: Attention,
        *,
        actions: bool = True,
    ) -> None:
        super().__init__(spec, network, history)
        self.acted = PastActions(spec)
        self.width = attention.width
        self.of_input = nn.Linear(self.now.width, self.width)
        self.of_action = nn.Linear(self.acted.width, self.width, bias=False) if actions else None
        self.place = nn.Parameter(0.02 * torch.randn(history + 1, self.width))
        self.transformer = Transformer(attention)

    def joined(self, features: Tensor, task: Tensor | None, past: Past | None) -> Tensor:
        """Return the features of the present, ``[..., D]``, see :meth:`PastInputs.joined`."""
        return self._tokens(features, task, past)[..., -1, :]

    def each(
        self, observation: Observation, task: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """Return the features of every step of the window, each of what was known by then.

        Args:
            observation: ``[..., O]``, or ``[..., *shape]`` by entry.
            task: ``[..., Z]`` where the spec has a task; it holds for the whole window.
            past: The last steps, at most P.

        Returns:
            ``[..., P + 1, D]``.

        Raises:
            ValueError: The past is missing.
        """
        return self._tokens(self.encode(observation), task, past)

    def _tokens(self, features: Tensor, task: Tensor | None, past: Past | None) -> Tensor:
        past, before = self.before(past)
        seen = torch.cat([before, features.unsqueeze(-2)], dim=-2)
        if task is not None:
            task = task.unsqueeze(-2).expand(*seen.shape[:-1], task.shape[-1])
        tokens = self.of_input(self.now.join(seen, task)) + self.place[-seen.shape[-2] :]
        valid = past["valid"].to(tokens.dtype).unsqueeze(-1)
        if self.of_action is not None:
            done = self.of_action(self.acted(past["action"], valid))
            tokens = tokens + nn.functional.pad(done, (0, 0, 1, 0))
        known = torch.cat([past["valid"].bool(), torch.ones_like(valid[..., :1, 0]).bool()], dim=-1)
        found: Tensor = self.transformer(tokens, causal(known))
        return found


def past_inputs(
    spec: Spec, network: Network, history: History
) -> HistoryInputs | AttentionInputs | None:
    """Return what encodes a past beside the present; ``None`` where there is no past to see."""
    if not history.steps:
        return None
    if history.attention is None:
        return HistoryInputs(spec, network, history.steps, actions=history.actions)
    return AttentionInputs(spec, network, history.steps, history.attention, actions=history.actions)


def empty_past(
    spec: Spec,
    history: int,
    count: int,
    device: torch.device,
    *,
    actions: bool = True,
    features: int = 0,
) -> dict[str, Tensor]:
    """Return the past of episodes that begin, of so many of them.

    Args:
        spec: The data's spec.
        history: P.
        count: n.
        device: Where it lies.
        actions: Whether it holds actions.
        features: F, where it holds features in the place of observations.

    Returns:
        A past with leading dimension n, no step of it valid.
    """
    shape, discrete = (count, history), spec.action.discrete
    action = torch.zeros(
        shape if discrete else (*shape, spec.action.width),
        dtype=torch.int64 if discrete else torch.float32,
        device=device,
    )
    seen = ("observation", spec.vector.width) if not features else (FEATURES, features)
    return {
        seen[0]: torch.zeros(*shape, seen[1], device=device),
        **({"action": action} if actions else {}),
        "valid": torch.zeros(shape, device=device),
    }


def follow(past: Past, **now: Tensor) -> dict[str, Tensor]:
    """Return the past one step later.

    Args:
        past: Of ``[n, P, ...]``, with ``valid``.
        **now: ``[n, ...]`` by name: ``observation``, what was seen, ``action``, what was done, in
            environment units or numbers from 0; what the past does not hold is left out.

    Returns:
        A past of the same shapes; its oldest step is forgotten.
    """
    now = {**now, "valid": torch.ones_like(past["valid"][:, 0])}
    return {
        name: torch.cat([value[:, 1:], now[name].unsqueeze(1)], dim=1)
        for name, value in past.items()
    }


def hidden_past(past: Past, noise: Tensor, *, whole: float, steps: float) -> dict[str, Tensor]:
    """Return a past of which some is hidden: a remedy of copying the last action.

    Args:
        past: ``[..., P, ...]`` by name.
        noise: ``[..., 1 + P]`` standard normal.
        whole: Probability that no step is seen, in [0, 1].
        steps: Probability of each step not to be seen, in [0, 1].

    Returns:
        The past; ``valid`` is False where a step is hidden.

    Reference:
        De Haan, Jayaraman and Levine 2019, "Causal confusion in imitation learning",
        arXiv 1905.11979; dropout of the past: Bansal et al. 2018, arXiv 1812.03079.
    """
    draw = torch.special.ndtr(noise)  # normal to uniform
    kept = (draw[..., :1] >= whole) & (draw[..., 1:] >= steps)
    return {name: value & kept if name == "valid" else value for name, value in past.items()}
