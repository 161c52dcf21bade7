"""What is imagined of an ensemble's answers: a step drawn from its elites, and whether it ends."""

from typing import Protocol

from torch import Tensor

from hindsight_rl.maths.dynamics import Uncertainty, disagreement, mixture_outcome
from hindsight_rl.nets.dynamics import Outcomes, Said
from hindsight_rl.nets.ending import Ending, GivenEnding
from hindsight_rl.ports import Foreseen, Imagined


class Imaginer(Protocol):
    """Whose members they are.

    Attributes:
        elite: ``[E]``, 1 for elites and 0 for the others.
        outcomes: Units and ranges of steps.
        ending: Says whether a step ends its episode.
        uncertainty: What counts as disagreement.
    """

    elite: Tensor
    outcomes: Outcomes
    ending: Ending | GivenEnding
    uncertainty: Uncertainty


def foreseen(
    imaginer: Imaginer,
    said: Said,
    observation: Tensor,
    action: Tensor,
    draws: Tensor | None,
    elite: Tensor | None = None,
) -> Foreseen:
    """Return what is imagined of what members say.

    Args:
        imaginer: Whose members they are.
        said: Of every member.
        observation: ``[..., O]``.
        action: ``[..., A]`` in environment units, or ``[...]`` int64.
        draws: ``[..., 3]`` int64 counters, broadcast against the rows: of the elite that imagines,
            its noise and the ending; ``None`` for the mean of the elites, and the likelier ending.
        elite: ``[E]``, other elites than its own.

    Returns:
        The step, and what members say of it.
    """
    std = (0.5 * said.log_variance).exp()
    chosen = imaginer.elite if elite is None else elite
    outcome = mixture_outcome(said.mean, std, chosen, draws)
    following, reward = imaginer.outcomes(observation, outcome)
    terminated = imaginer.ending.ended(observation, action, following, draws)
    doubt = disagreement(said.mean, std, imaginer.uncertainty)
    imagined = Imagined(following, reward, terminated, doubt)
    return Foreseen(imagined, said.mean, std, said.memory)
