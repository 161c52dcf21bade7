"""Column maps: read from everywhere, refused with the mend."""

from pathlib import Path

import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.column_map import ColumnMap, short_names
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, resolve, wanted


def test_load_takes_a_map_a_mapping_a_file_a_short_name_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("observation: [a, b]\naction_scale: 2\n")
    given = ColumnMap(observation=["a", "b"], action_scale=2)
    assert ColumnMap.load(given) is given
    assert ColumnMap.load({"observation": ["a", "b"], "action_scale": 2}) == given
    assert ColumnMap.load(file) == ColumnMap.load(str(file)) == given
    assert ColumnMap.load(None) == ColumnMap()
    assert ColumnMap.load("rllib_cartpole").time_limit == 200


def test_packaged_maps_all_load_and_name_their_columns() -> None:
    assert len(short_names()) >= 7
    for name in short_names():
        loaded = ColumnMap.load(name)
        assert loaded.format and loaded.observation and loaded.action, name


def test_given_returns_what_differs_from_the_defaults() -> None:
    assert ColumnMap(reward=0.0, clip=True).given() == {"reward": 0.0, "clip": True}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"obsevation": "x"}, r"no field 'obsevation'. Did you mean 'observation'\?"),
        ({"zzz": 1}, "no field 'zzz'. Valid fields: format, observation,"),
        ({"observation": 3}, "observation: 3 is not text or a list of str"),
        ({"observation": []}, r"observation: \[\] is not text or a list of str"),
        ({"clip": "yes"}, "clip: 'yes' is not true or false"),
        ({"time_limit": True, "done_means": "time_limit"}, "time_limit: True is not a whole numb"),
        ({"done_means": "over"}, "not one of terminated, truncated, time_limit"),
        ({"units": ["m"]}, "is not a mapping of lists of str"),
        ({"action_scale": "two"}, "is not a number or a list of float"),
        ({"episode": "e", "episode_end": "f"}, "episode and episode_end both say where episodes"),
        ({"episode": "e", "episode_jump": True}, "episode and episode_jump both say"),
        ({"done": "d", "terminated": "t"}, "done is given beside terminated or truncated"),
        ({"done_means": "time_limit"}, "go together. Give both or neither"),
        ({"time_limit": 5}, "go together. Give both or neither"),
        ({"episode_length": 0}, "episode_length: 0 is not above 0"),
        ({"names": {"reward": ["r"]}}, "names has no key 'reward'. Its keys are observation"),
    ],
)
def test_a_wrong_map_is_refused(values: dict, told: str) -> None:
    with pytest.raises(LogError, match=told):
        ColumnMap.load(values)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("clip: perhaps\n")
    with pytest.raises(LogError, match="mine.yaml: clip: 'perhaps' is not true or false"):
        ColumnMap.load(file)


def test_a_wrong_value_is_refused_in_python_too() -> None:
    with pytest.raises(LogError, match="time_limit: -1 is not above 0"):
        ColumnMap(done_means="time_limit", time_limit=-1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n- b\n", "is no mapping"),
        ("a: [1\n", "cannot be read"),
        ("!!python/object/apply:os.getcwd []\n", "cannot be read"),
    ],
)
def test_a_file_that_is_no_map(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(LogError, match=told):
        ColumnMap.load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        LogError, match=r"none.yaml: the column map cannot be read .* or one of: .*rllib_cart"
    ):
        ColumnMap.load(tmp_path / "none.yaml")


def test_an_unknown_short_name() -> None:
    with pytest.raises(LogError, match="no packaged column map 'rlib_cartpole'. Did you mean 'rll"):
        ColumnMap.load("rlib_cartpole")


def test_resolve_guesses_the_usual_names() -> None:
    held = ["observations", "actions", "rewards", "terminals", "timeouts", "infos/qpos"]
    found = resolve(ColumnMap(), held, "d4rl")
    assert (found.observation, found.action, found.reward) == tuple(held[:3])
    assert (found.terminated, found.truncated, found.done) == ("terminals", "timeouts", None)
    assert wanted(found) == held[:5]


def test_resolve_expands_numbers_in_their_order() -> None:
    held = ["obs_10", "obs_2", "obs_x", "a", "r"]
    found = resolve(ColumnMap(observation="obs_*", action="a", reward="r"), held, "log")
    assert found.observation == ["obs_2", "obs_10"]
    found = resolve(ColumnMap(action=["a", "obs_*"], reward="r"), held, "log")
    assert found.action == ["a", "obs_2", "obs_10"] and found.observation == ["obs_2", "obs_10"]


def test_resolve_leaves_alone_what_is_settled() -> None:
    held = ["obs", "act", "reward", "episode", "episode_end", "terminated", "done"]
    by_flag = resolve(ColumnMap(episode_end="episode_end"), held, "log")
    assert by_flag.episode is None and by_flag.terminated == "terminated" and by_flag.done is None
    by_done = resolve(ColumnMap(done="done", episode_length=5), held, "log")
    assert by_done.terminated is None and by_done.episode is None
    shifted = resolve(ColumnMap(next_observation="shifted"), [*held, "next_obs"], "log")
    assert shifted.next_observation == "shifted" and "next_obs" not in wanted(shifted)


@pytest.mark.parametrize(
    ("given", "held", "told"),
    [
        (
            {"action": "acts"},
            ["obs", "act", "reward"],
            "'acts': no such column. Did you mean 'act'",
        ),
        ({"observation": "o_*"}, ["obs", "act"], r"column 'o_\*': no such column"),
        (
            {},
            ["act", "reward"],
            "no column looks like the observation. Name it.*holds: act, reward",
        ),
        ({}, ["obs", "act"], "like the reward.*read with `reward: 0.0`"),
    ],
)
def test_resolve_names_what_is_missing(given: dict, held: list[str], told: str) -> None:
    with pytest.raises(LogError, match=told):
        resolve(ColumnMap(**given), held, "log")


def test_every_guessed_field_is_a_field() -> None:
    assert set(COMMON_NAMES) <= set(ColumnMap.__dataclass_fields__)
