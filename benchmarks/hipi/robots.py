"""Figures 5 and 6 of HIPI on the robots of the paper (``make hipi-robots``).

    python benchmarks/hipi/robots.py [--domains walker ...] [--seeds 5] [--choose]

As online.py, at a hundredth of the paper's steps. Needs the extra ``robots``. Writes
build/hipi/robots.json; finished runs are kept in build/hipi/online/.
"""

import online
from online import Domain

_LINEAR = {"env_steps": 40_000, "evaluate_every": 4_000, "hidden": [128, 128]}
_ARM = {"env_steps": 40_000, "evaluate_every": 4_000, "episode_steps": 100}
_SPARSE = {"discount": 0.98, "value_range": [-50.0, 0.0]}
ROBOTS = {
    "walker": Domain(
        "Walker",
        "gaits",
        ("inverse RL", "random", "none"),
        {},
        0,
        {"discount": 0.97, "value_range": None},
        "return",
        "walker, linear rewards (Fig. 6)",
        _LINEAR,
    ),
    "cheetah": Domain(
        "HalfCheetah",
        "speeds",
        ("inverse RL", online.REACHED, "future", "random", "none"),
        {"pool": 64},
        0,
        {"discount": 0.97, "value_range": None},
        "return",
        "half-cheetah, target speeds (Fig. 6)",
        _LINEAR,
    ),
    "reacher": Domain(
        "Reacher",
        "goals",
        ("inverse RL", online.REACHED, "future", "final", "random", "none"),
        {"radius": 0.02},
        0,
        _SPARSE,
        "success",
        "reacher, radius 2 cm (Fig. 5)",
        _ARM,
    ),
    "reacher_32": Domain(
        "Reacher32",
        "places",
        ("inverse RL", "random", "none"),
        {"radius": 0.02},
        0,
        _SPARSE,
        "success",
        "reacher, 32 goals, radius 2 cm (Fig. 6)",
        _ARM,
    ),
    "finger": Domain(
        "Finger",
        "goals",
        ("inverse RL", online.REACHED, "future", "final", "random", "none"),
        {"radius": 0.03},
        0,
        _SPARSE,
        "success",
        "finger turn, radius 3 cm (Fig. 5)",
        _ARM,
    ),
}


if __name__ == "__main__":
    raise SystemExit(online.compare(ROBOTS, "robots", (__doc__ or "").split("\n")[0]))
