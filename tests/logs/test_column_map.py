"""Column maps: read from everywhere, refused with the fix."""

import warnings
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

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
        assert loaded.observation and loaded.action, name
        assert loaded.format or name == "rlds_steps", name  # steps may be kept in any format


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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+2", -200.0),
        (".5e3", 500.0),
        ("5.e3", 5000.0),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("010", 10),
        ("1", 1),
        ("0x10", 16),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("-.Inf", float("-inf")),
    ],
)
def test_numbers_are_read_however_they_are_written(text: str, value: float, tmp_path: Path) -> None:
    """YAML 1.1 takes some of them for text, and 010 for 8."""
    file = tmp_path / "mine.yaml"
    for written in (text, f"'{text}'", f'"{text}"'):
        file.write_text(f"action_scale: {written}\naction_low: [{written}, 2]\n")
        for read in (ColumnMap.load(file), ColumnMap.load("{" + f"action_scale: {written}" + "}")):
            assert read.action_scale == value
        assert ColumnMap.load(file).action_low == [value, 2]
    assert ColumnMap(action_scale=text).action_scale == value  # type: ignore[arg-type]
    assert ColumnMap.load({"action_offset": [text]}).action_offset == [value]


@pytest.mark.parametrize("text", ["200", "2e2", "2_00", "'200'", "200.0", "0200"])
def test_whole_numbers_are_read_however_they_are_written(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"done_means: time_limit\ntime_limit: {text}\n")
    read = ColumnMap.load(tmp_path / "mine.yaml").time_limit
    assert read == 200 and isinstance(read, int)


@pytest.mark.parametrize("text", ["1e", "1-3", "_1", "e3", "1:30", "--1", "two", "1 000", "nan"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(LogError, match="action_scale: .* is not a number or a list of float"):
        ColumnMap.load({"action_scale": text})


def test_a_reward_in_quotes_is_a_column_and_a_bare_number_a_reward(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("reward: 1e-3\n")
    assert ColumnMap.load(tmp_path / "mine.yaml").reward == 0.001
    (tmp_path / "mine.yaml").write_text("reward: '1e-3'\n")
    assert ColumnMap.load(tmp_path / "mine.yaml").reward == "1e-3"


def test_load_takes_a_map_that_is_written_out() -> None:
    expected = ColumnMap(observation=["x", "v"], action_low=[-1, None], clip=True)
    assert ColumnMap.load("{observation: [x, v], action_low: [-1, null], clip: true}") == expected
    quoted = '{"observation": ["x", "v"], "action_low": [-1, null], "clip": true}'
    assert ColumnMap.load(quoted) == expected
    for text, told in (
        ("{observation: x", "the column map cannot be read .* Write it as '{observation: obs"),
        ("{obsevation: x}", r"no field 'obsevation'. Did you mean 'observation'\?"),
        ("{observation: x}, {action: u}", "the column map cannot be read"),
        ("{!!python/name:os.getcwd '': 1}", "the column map cannot be read"),
    ):
        with pytest.raises(LogError, match=told):
            ColumnMap.load(text)


@pytest.mark.parametrize("number", ["1e-3", ".5e3", "1_000"])
def test_the_command_reads_a_map_as_load_does(number: str, tmp_path: Path) -> None:
    """The parser of `fit`: from a word, from words for one field, and from a file."""
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf")
    parser.add_argument("--settings", action="config")
    parser.add_argument("--columns", type=ColumnMap | str | None, default=None)
    text = "{action_scale: " + number + ", action_low: [" + number + ", null, -.inf], "
    text += "comment: '#', delimiter: '~', true_values: ['yes'], null_values: ['~', NA]}"
    (tmp_path / "settings.yaml").write_text(f"columns: {text}\n")
    expected = ColumnMap.load(text)
    for words in (["--columns", text], ["--settings", str(tmp_path / "settings.yaml")]):
        assert ColumnMap.load(parser.instantiate(parser.parse_args(words)).columns) == expected
    one = parser.instantiate(parser.parse_args(["--columns.action_scale", number])).columns
    assert one == ColumnMap(action_scale=expected.action_scale)


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
    held = ["obs_10", "obs_9", "obs_x", "a", "r"]
    found = resolve(ColumnMap(observation="obs_*", action="a", reward="r"), held, "log")
    assert found.observation == ["obs_9", "obs_10"]
    found = resolve(ColumnMap(action=["a", "obs_*"], reward="r"), held, "log")
    assert found.action == ["a", "obs_9", "obs_10"] and found.observation == ["obs_9", "obs_10"]


@pytest.mark.parametrize("given", [{"observation": "obs_*"}, {}])
def test_resolve_warns_of_a_gap_in_numbers(given: dict) -> None:
    held = ["obs_0", "obs_2", "obs_3", "action", "reward"]
    with pytest.warns(UserWarning, match=r"log: 'obs_\*' stands for 3 .* gap, 0 is followed by 2"):
        found = resolve(ColumnMap(**given), held, "log")
    assert found.observation == held[:3]


def test_resolve_says_nothing_of_a_gap_in_a_list() -> None:
    held = ["obs_0", "obs_2", "action", "reward"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve(ColumnMap(observation=held[:2]), held, "log").observation == held[:2]


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
