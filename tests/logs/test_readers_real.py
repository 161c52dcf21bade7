"""Real logs, read with the packaged column maps: the counts that their owners publish."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, read_logs


class Published(NamedTuple):
    """What the folder's README says: counts, and mean, sd, least and greatest return."""

    path: str
    columns: str
    episodes: int
    transitions: int
    returns: tuple[float, float, float, float]
    terminated: int


REAL = [
    Published("rllib_cartpole", "rllib_cartpole", 21, 4137, (197.0, 13.4, 137, 200), 1),
    Published(
        "rllib_pendulum/pendulum_expert_sac_50eps.npz",
        "rllib_pendulum_sac",
        50,
        10_000,
        (-174.7, 96.9, -359.2, -1.3),
        0,
    ),
    Published(
        "rllib_pendulum/pendulum_medium_sac_50eps.npz",
        "rllib_pendulum_sac",
        50,
        10_000,
        (-524.3, 496.6, -1260.8, -0.9),
        0,
    ),
    Published(
        "rllib_pendulum/pendulum_replay_v1.1.0.npz",
        "rllib_pendulum_replay",
        500,
        99_500,
        (-180.5, 208.8, -1778.2, -0.7),
        0,
    ),
    # 15 of the 57 episodes reach the limit of 500 steps.
    Published(
        "imitation_expert/cartpole_expert.npz",
        "imitation_expert_cartpole",
        57,
        26_964,
        (473.1, 26.5, 393, 500),
        42,
    ),
    Published(
        "imitation_expert/pendulum_expert.npz",
        "imitation_expert_pendulum",
        56,
        11_200,
        (-189.4, 129.6, -548.1, -0.5),
        0,
    ),
    Published(
        "adroit_door_human/door_human.npz",
        "adroit_door_human",
        25,
        6729,
        (794.1, 357.7, 230.1, 1496.2),
        0,
    ),
    Published("unitree_g1_pick_bottle", "unitree_g1", 100, 35_965, (0, 0, 0, 0), 0),
]


def returns(log: Log) -> np.ndarray:
    """Return the undiscounted return of each episode, ``[E]``."""
    reward = log.column(("next", "reward")).numpy().astype(float)
    return np.bincount(log.column("episode").numpy(), reward)


@pytest.mark.parametrize("real", REAL, ids=lambda real: Path(real.path).stem)
def test_published_counts(real: Published, data: Path) -> None:
    log = read_log(data / real.path, real.columns)
    got = returns(log)
    assert (log.episodes, len(log)) == (real.episodes, real.transitions)
    spread = (got.mean(), got.std(), got.min(), got.max())
    np.testing.assert_allclose(spread, real.returns, atol=0.05)
    assert int(log.column(("next", "terminated")).sum()) == real.terminated
    ends = log.column(("next", "terminated")) | log.column(("next", "truncated"))
    assert ends.nonzero()[:, 0].tolist() == log.episode_ends().tolist()


def test_cartpole_rows_follow_each_other(data: Path) -> None:
    log = read_log(data / "rllib_cartpole", "rllib_cartpole")
    inside = ~(log.column(("next", "truncated")) | log.column(("next", "terminated")))[:-1]
    gap = (log.column(("next", "observation"))[:-1] - log.column("observation")[1:]).abs().amax(1)
    assert gap[inside].max() == 0
    assert log.info["discrete_actions"] == 2
    assert log.info["units"]["observation"] == ["m", "m/s", "rad", "rad/s"]


def test_pendulum_torques_are_scaled(data: Path) -> None:
    """Rows obey Gymnasium's equation of motion, in which the torque appears, after scaling."""
    log = read_log(data / "rllib_pendulum/pendulum_medium_sac_50eps.npz", "rllib_pendulum_sac")
    now, after = log.column("observation"), log.column(("next", "observation"))
    torque = log.column("action")[:, 0]
    speed = (now[:, 2] + 0.05 * (15 * now[:, 1] + 3 * torque)).clamp(-8, 8)
    assert (speed - after[:, 2]).abs().max() < 1e-3


def test_replay_hides_a_reset_in_its_next_observations(data: Path) -> None:
    path = data / "rllib_pendulum/pendulum_replay_v1.1.0.npz"
    with pytest.raises(LogError, match="at 499 of 499 cut episodes .* `next_observation: shifted`"):
        read_log(path, {"done_means": "truncated"})
    assert read_log(path, "rllib_pendulum_replay").info["repeated_next_observation"] == 500


def test_imitation_keeps_the_observation_after_the_last_action(data: Path) -> None:
    path = data / "imitation_expert/cartpole_expert.npz"
    log = read_log(path, "imitation_expert_cartpole")
    with np.load(path, allow_pickle=False) as stored:
        # Episode 0 has 458 actions and 459 observations, episode 1 starts right behind them.
        after = log.column(("next", "observation")).numpy()
        np.testing.assert_array_equal(after[457], stored["obs"][458])
        np.testing.assert_array_equal(log.column("observation").numpy()[458], stored["obs"][459])
        np.testing.assert_array_equal(after[-1], stored["obs"][-1])
    assert log.info["repeated_next_observation"] == 0


def test_adroit_actions_are_clipped_only_when_asked(data: Path) -> None:
    path = data / "adroit_door_human/door_human.npz"
    with pytest.raises(
        LogError, match=r"column 'action', row 4: action\[4\] = 1.01111 lies outside"
    ):
        read_log(path, {"action_low": -1.0, "action_high": 1.0})
    log = read_log(path, "adroit_door_human")
    assert log.column("action").abs().max() == 1 and log.info["clipped_actions"] == 10_595


def test_unitree_names_come_from_its_metadata(data: Path) -> None:
    log = read_log(data / "unitree_g1_pick_bottle", "unitree_g1")
    assert log.info["names"]["action"][0] == "kLeftShoulderPitch"
    assert log.info["task_names"] == ["Pick up the yellow bottle on the table."]
    assert log.info["control_rate_hz"] == 30
    lengths = log.column("step")[log.episode_ends()] + 1
    assert (int(lengths.min()), int(lengths.max())) == (221, 583)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("rllib_cartpole", r"20 of 21 stop after exactly 200 steps: a time limit\?"),
        ("imitation_expert/pendulum_expert.npz", "nothing says where episodes begin"),
    ],
)
def test_without_a_map_nothing_is_guessed_wrongly(path: str, told: str, data: Path) -> None:
    with pytest.raises(LogError, match=told):
        read_log(data / path)


def test_expert_and_medium_mix(data: Path) -> None:
    files = [
        data / f"rllib_pendulum/pendulum_{kind}_sac_50eps.npz" for kind in ("expert", "medium")
    ]
    mixed = read_logs(files, "rllib_pendulum_sac", [1.0, 3.0])
    assert mixed.episodes == 100 and len(mixed) == 20_000
    np.testing.assert_allclose(returns(mixed).mean(), (-174.7 - 524.3) / 2, atol=0.05)
