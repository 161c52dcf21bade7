"""Figures 5 and 6 of HIPI on the robots of the paper (``make hipi-robots``).

    python benchmarks/hipi/robots.py [--domains walker ...] [--seeds 5] [--choose]

As online.py, at a hundredth of the paper's steps, with four of the 32 candidates of a row scored by
the step and the others by the critic. Needs the extra ``robots``. Writes build/hipi/robots.json;
finished runs are kept in build/hipi/online/.
"""

from typing import Any

import online
from online import Domain

_SHARED: dict[str, Any] = {
    "hidden": [128, 128],
    "scoring": {"by": "critic", "refined": 4},
    "episodes": 50,
    "episode_steps": 100,
}
_DENSE: dict[str, Any] = {"discount": 0.97, "value_range": None}
_SPARSE: dict[str, Any] = {"discount": 0.98, "value_range": [-50.0, 0.0]}
_TASKS = ("inverse RL", "random", "none")
_REACHED = (online.REACHED, "future", "none")


def _robot(
    env: str,
    family: str,
    data_steps: tuple[str, ...],
    title: str,
    steps: int,
    **env_kwargs: float,
) -> Domain:
    """Return a domain that is evaluated eight times; robots with goals are scored by success."""
    dense = family in ("gaits", "speeds")
    model, score = (_DENSE, "return") if dense else (_SPARSE, "success")
    settings = _SHARED | {"env_steps": steps, "evaluate_every": steps // 8}
    return Domain(env, family, data_steps, env_kwargs, 0, model, score, title, settings)


ROBOTS = {
    "reacher": _robot(
        "Reacher",
        "goals",
        ("inverse RL", *_REACHED, "final"),
        "reacher, radius 1 cm (Fig. 5)",
        6_000,
        radius=0.01,
    ),
    "sawyer": _robot(
        "SawyerReach",
        "goals",
        ("inverse RL", *_REACHED),
        "sawyer, radius 5 cm (Fig. 5)",
        8_000,
        radius=0.05,
    ),
    "quadruped": _robot(
        "Quadruped",
        "goals",
        ("inverse RL", *_REACHED),
        "quadruped, 0.6 m away, radius 0.3 m (Fig. 5)",
        8_000,
        radius=0.3,
        distance=0.6,
    ),
    "walker": _robot("Walker", "gaits", _TASKS, "walker, linear rewards (Fig. 6)", 12_000),
    "cheetah": _robot(
        "HalfCheetah",
        "speeds",
        ("inverse RL", online.REACHED, "random", "none"),
        "half-cheetah, target speeds (Fig. 6)",
        10_000,
        pool=64,
    ),
    "reacher_32": _robot(
        "Reacher32",
        "places",
        _TASKS,
        "reacher, 32 places, radius 2 cm (Fig. 6)",
        12_000,
        radius=0.02,
    ),
    "sawyer_margins": _robot(
        "SawyerReachMargins",
        "arm margins",
        _REACHED,
        "sawyer, margin 0 to 10 cm (Fig. 6)",
        6_000,
    ),
}


if __name__ == "__main__":
    raise SystemExit(online.compare(ROBOTS, "robots", (__doc__ or "").split("\n")[0]))
