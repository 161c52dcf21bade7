"""Bags of ROS 2 and MCAP: what the libraries' own writers wrote, read back; causal rows."""

import json
from pathlib import Path
from typing import Any

import bag_files as bags
import numpy as np
import pytest
from bag_files import (
    AT_EACH,
    COMMAND,
    FLAG,
    JOINTS,
    MAP,
    MS,
    START,
    Put,
    command,
    flag,
    joints,
    word,
)

from hindsight_rl.cli import inspect
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.reading.formats.bag_rows import fresh_runs, grid, marked, newest

for _library in ("rosbags", "mcap", "zstandard", "lz4"):
    pytest.importorskip(_library, reason="needs the extra 'ros'")


def column(log: Log, key: Any) -> Any:
    return log.column(key).numpy()


def lengths(log: Log) -> list[int]:
    return np.bincount(column(log, "episode")).tolist()


# Rows by hand.


def test_a_row_holds_what_was_known_at_its_time() -> None:
    """Messages at 0, 10, 25; ticks up to 90: the newest message that is no later."""
    stamps = np.array([0, 10, 25])
    ticks = np.array([-1, 0, 9, 10, 24, 25, 90])
    assert newest(stamps, ticks).tolist() == [-1, 0, 0, 1, 1, 2, 2]


def test_ticks_do_not_drift() -> None:
    """30 Hz is no whole number of ns: after an hour a tick is still where it belongs, to 1 ns."""
    ticks = grid(START, START + 3600 * 10**9, 30.0)
    assert len(ticks) == 108_001
    assert ticks[-1] == START + 3600 * 10**9 and ticks[1] == START + 33_333_333


def test_marks_and_stale_sensors_cut() -> None:
    on = np.array([False, True, True, False, True])
    found = marked(np.array([1, 5, 8, 12, 20]), on)
    assert [tuple(one) for one in found[:2]] == [(5, 7), (8, 11)]
    assert found[2].start == 20 and found[2].stop > 10**18
    ages = [np.array([0.0, 0.1, 0.3, 0.1, 0.0]), np.array([0.0, 0.0, 0.0, 0.0, 0.2])]
    assert fresh_runs(ages, 0.2) == [slice(0, 2), slice(3, 5)]
    assert fresh_runs(ages, None) == [slice(0, 5)]


def test_resampling_by_hand(tmp_path: Path) -> None:
    """Stamps 0, 10, 30, 45 ms; commands received at 5, 26 ms; 100 Hz from the first of both.

    Rows at 5, 15, 25, 35, 45 ms see positions of 0, 10, 10, 30, 45 ms: ages 5, 5, 15, 5, 0 ms;
    the command of 26 ms is first known at 35 ms.
    """

    def write(put: Put) -> None:
        for number, at in enumerate((0, 10, 30, 45)):
            put(JOINTS, START + (at + 3) * MS, joints(START + at * MS, ["a"], [number]))
        for at in (5, 26):
            put(COMMAND, START + at * MS, command([at]))

    path = bags.mcap(tmp_path / "one.mcap", write)
    log = read_log(path, MAP | {"control_rate_hz": 100, "extra": f"{JOINTS}@age"})
    assert column(log, "observation")[:, 0].tolist() == [0, 1, 1, 2, 3]
    assert column(log, "action")[:, 0].tolist() == [5, 5, 5, 26, 26]
    ages = column(log, "joint_states@age")
    np.testing.assert_allclose(ages, [0.005, 0.005, 0.015, 0.005, 0.0], atol=1e-9)
    assert log.info["control_rate_hz"] == 100
    about = log.info["recording"]["topics"][JOINTS]
    assert about["age_s"] == {"median": 0.005, "max": 0.015} and about["stamps"] == "header"
    assert log.info["recording"]["topics"][COMMAND]["stamps"] == "receive"
    late = read_log(path, MAP | {"control_rate_hz": 100, "stamps": "receive"})
    # From 5 ms on positions are received at 3, 13, 33, 48 ms; rows at 5, 15, 25, 35, 45 ms.
    assert column(late, "observation")[:, 0].tolist() == [0, 1, 1, 2, 2]


# Equality with what was written.


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
def test_a_bag_of_rosbags_reads_back_equal(storage: str, tmp_path: Path) -> None:
    path = bags.rosbag(tmp_path / "bag", bags.steady, storage)
    log = read_log(path, AT_EACH | {"action_at": "next"})
    rows = np.arange(99)
    # The first row is where both are known: at the second stamp, 10 ms. One step later is the next.
    expected = np.stack([rows, rows + 0.5], 1).astype(np.float32)[1:]
    np.testing.assert_array_equal(column(log, "observation"), expected)
    np.testing.assert_array_equal(column(log, ("next", "observation"))[:-1], expected[1:])
    np.testing.assert_array_equal(column(log, ("next", "observation"))[-1], [99, 99.5])
    np.testing.assert_array_equal(column(log, "action")[:, 0], 2.0 * rows[1:])
    assert log.info["names"]["observation"] == ["position[a]", "position[b]"]
    assert log.info["control_rate_hz"] == 100


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_mcap_of_each_compression_reads_back_equal(compression: str, tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, compression=compression, chunk=4096)
    log = read_log(path, AT_EACH)
    np.testing.assert_array_equal(column(log, "observation")[:, 0], np.arange(1, 100))
    np.testing.assert_array_equal(column(log, "action")[:, 0], 2.0 * np.arange(99))
    bare = bags.mcap(tmp_path / "b.mcap", bags.steady, chunk=0)
    np.testing.assert_array_equal(column(read_log(bare, AT_EACH), "observation")[:, 1][0], 1.5)


def test_messages_of_json_nested_fields_and_arrays(tmp_path: Path) -> None:
    def write(put: Put) -> None:
        for k in range(5):
            arm = {"q": [k, 2 * k], "tip": {"x": 0.5 * k, "y": -k}}
            put("/arm", START + k * 10 * MS, {"arm": arm, "gear": k % 2 == 0, "u": 1.0 + k})

    path = bags.mcap(tmp_path / "plain.mcap", write)
    given = {"observation": ["/arm.arm.q[1]", "/arm.arm.tip", "/arm.gear"], "action": "/arm.u"}
    log = read_log(path, given | {"row_at": "/arm"})
    rows = np.arange(5)
    expected = np.stack([2 * rows, 0.5 * rows, -rows, rows % 2 == 0], 1).astype(np.float32)
    np.testing.assert_array_equal(column(log, "observation"), expected)
    assert log.info["names"]["observation"] == ["/arm.arm.q[1]", "x", "y", "/arm.gear"]


def test_joints_keep_their_order_and_may_come_from_several_publishers(tmp_path: Path) -> None:
    """The order of names changes within the bag, and a gripper publishes on the same topic."""

    def write(put: Put) -> None:
        for k in range(6):
            at = START + k * 10 * MS
            names, values = (["a", "b"], [k, 10 + k]) if k % 2 else (["b", "a"], [10 + k, k])
            put(JOINTS, at, joints(at, names, values))
            put(COMMAND, at, command([0.0]))

    path = bags.mcap(tmp_path / "order.mcap", write)
    log = read_log(path, AT_EACH)
    rows = np.arange(6.0)
    assert log.info["names"]["observation"] == ["position[b]", "position[a]"]
    np.testing.assert_array_equal(column(log, "observation"), np.stack([10 + rows, rows], 1))
    one = read_log(path, AT_EACH | {"observation": f"{JOINTS}.position[a]"})
    np.testing.assert_array_equal(column(one, "observation")[:, 0], rows)

    def gripper(put: Put) -> None:
        write(put)
        put(JOINTS, START + 25 * MS, joints(START + 25 * MS, ["finger"], [7.0]))

    both = bags.mcap(tmp_path / "both.mcap", gripper)
    with pytest.raises(LogError, match=r"names \['position\[finger\]'\].*list the joints"):
        read_log(both, AT_EACH)
    named = [f"{JOINTS}.position[{name}]" for name in ("a", "finger")]
    log = read_log(both, AT_EACH | {"observation": named})
    # Before 25 ms no finger is known; then rows are at the stamps of all messages of the topic.
    np.testing.assert_array_equal(column(log, "observation"), [[2, 7], [3, 7], [4, 7], [5, 7]])


# Episodes.


def test_the_next_state_as_action(tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady)
    position = f"{JOINTS}.position"
    given = {"observation": position, "action": position, "row_at": JOINTS, "action_at": "next"}
    log = read_log(path, given)
    assert len(log) == 99
    np.testing.assert_array_equal(column(log, "action"), column(log, ("next", "observation")))
    assert log.info["names"]["action"] == ["position[a]", "position[b]"]


@pytest.mark.parametrize("words", [False, True])
def test_a_marker_topic_starts_and_stops_episodes(words: bool, tmp_path: Path) -> None:
    def write(put: Put) -> None:
        bags.steady(put)
        for at, on in ((195, True), (395, False), (695, True)):
            mark = word("start" if on else "stop") if words else flag(on)
            put(FLAG, START + at * MS, mark)

    path = bags.mcap(tmp_path / "a.mcap", write)
    log = read_log(path, AT_EACH | {"episode_marker": f"{FLAG}.data"})
    assert lengths(log) == [20, 30]
    np.testing.assert_array_equal(
        column(log, "observation")[:, 0], [*range(20, 40), *range(70, 100)]
    )


def test_bags_of_a_folder_are_episodes_and_parts_of_one_are_not(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for name, count in (("run_b", 20), ("run_a", 10)):
        bags.mcap(many / f"{name}.mcap", lambda put, count=count: bags.steady(put, count))
    assert lengths(read_log(many, AT_EACH)) == [9, 19]
    parts = tmp_path / "bag"
    parts.mkdir()
    for number in (0, 1):

        def half(put: Put, number: int = number) -> None:
            for k in range(50 * number, 50 * number + 50):
                at = START + 10 * k * MS
                put(JOINTS, at, joints(at, ["a"], [k]))
                put(COMMAND, at, command([0.0]))

        bags.mcap(parts / f"bag_{number}.mcap", half)
    assert lengths(read_log(parts, AT_EACH)) == [100]
    folders = tmp_path / "folders"
    folders.mkdir()
    for name in ("x", "y"):
        bags.rosbag(folders / name, lambda put: bags.steady(put, 5))
    assert lengths(read_log(folders, AT_EACH)) == [4, 4]


def test_sensors_that_are_too_old_end_the_episode(tmp_path: Path) -> None:
    def write(put: Put) -> None:
        for k in range(20):
            at = START + 10 * k * MS
            put(COMMAND, at, command([k]))
            if not 8 <= k < 12:
                put(JOINTS, at, joints(at, ["a"], [k]))

    path = bags.mcap(tmp_path / "gap.mcap", write)
    given = AT_EACH | {"row_at": COMMAND}
    assert len(read_log(path, given)) == 20
    log = read_log(path, given | {"max_age": 0.015})
    # At 80 ms the sensor of 70 ms is 10 ms old; rows of 90, 100, 110 ms are left out.
    assert lengths(log) == [9, 8] and log.info["recording"]["stale_rows"] == 3


# Errors: what, where, and the fix.


def untyped(kind: str) -> tuple[str, str]:
    return "ros2msg", "my_msgs/Unheard thing"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observation": "/joint_state.position"}, "no such column.*Did you mean '/joint_states"),
        ({"observation": f"{JOINTS}.angle"}, "no such field.*header, name, position, velocity"),
        ({"observation": f"{JOINTS}.name"}, "it holds a list of str, no numbers"),
        ({"observation": f"{JOINTS}.header.frame_id"}, "it holds text, no numbers"),
        ({"observation": f"{JOINTS}.position[elbow]"}, "no message holds such an entry"),
        ({"observation": f"{JOINTS}.position]"}, "neither a field nor a place"),
        ({"control_rate_hz": None}, "at what rate.*row_at: TOPIC.*/joint_states 100 Hz"),
        ({"row_at": "/jnt"}, "row_at: no such topic.*It holds: /command, /joint_states"),
        ({"episode_marker": f"{COMMAND}.data"}, "a mark is no text or flag"),
        ({"episode_length": 5}, "episode_length is given.*episode_marker"),
        ({"max_age": -1}, "max_age: -1 is not above 0"),
        ({"max_age": 1e-9, "control_rate_hz": 1000, "stamps": "receive"}, "no row is left"),
    ],
)
def test_errors_say_what_where_and_the_fix(given: Any, message: str, tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady)
    with pytest.raises(LogError, match=message):
        read_log(path, MAP | given)


def test_unknown_types_and_encodings(tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, schema=untyped)
    with pytest.raises(LogError, match=r"column '/joint_states': messages of the type.*not known"):
        read_log(path, MAP)
    from mcap.writer import Writer

    other = tmp_path / "other.mcap"
    with other.open("wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/x", "protobuf", 0)
        writer.add_message(channel, START, b"\1", START)
        writer.finish()
    with pytest.raises(LogError, match="encoded as 'protobuf'.*Leave the topic out"):
        read_log(other, {"observation": "/x.a", "action": "/x.b", "control_rate_hz": 1})


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    empty = bags.mcap(tmp_path / "empty.mcap", lambda put: None)
    with pytest.raises(LogError, match=r"empty.mcap: the bag holds no message"):
        read_log(empty, MAP)
    for name in ("not.mcap", "not.db3"):
        (tmp_path / name).write_bytes(b"something else entirely")
        with pytest.raises(LogError, match=f"{name}: it is no"):
            read_log(tmp_path / name, MAP)
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "a.mcap.zstd").write_bytes(b"")
    with pytest.raises(LogError, match="compressed as a whole. Unpack it first"):
        read_log(folder, MAP)


def test_two_clocks_are_not_compared(tmp_path: Path) -> None:
    """Stamps of a simulator's clock beside receive times of the wall's."""

    def write(put: Put) -> None:
        for k in range(10):
            put(JOINTS, START + 10 * k * MS, joints(10 * (k + 1) * MS, ["a"], [k]))
            put(COMMAND, START + 10 * k * MS, command([k]))

    path = bags.mcap(tmp_path / "sim.mcap", write)
    with pytest.raises(LogError, match=r"two clocks: .*stamps: receive"):
        read_log(path, AT_EACH)
    assert len(read_log(path, AT_EACH | {"stamps": "receive"})) == 10


def test_a_clock_that_jumps_back_is_an_error(tmp_path: Path) -> None:
    """Sorted by their stamps, the messages of two runs of a simulator would be mixed."""

    def write(put: Put) -> None:
        for k in range(400):
            at = START + 10 * (k % 200) * MS
            put(JOINTS, START + 10 * k * MS, joints(at, ["a"], [k]))
            put(COMMAND, START + 10 * k * MS, command([k]))

    path = bags.mcap(tmp_path / "reset.mcap", write)
    with pytest.raises(LogError, match=r"'/joint_states': its clock.*jumps back by 1.99 s at mess"):
        read_log(path, AT_EACH)
    log = read_log(path, AT_EACH | {"stamps": "receive"})
    assert column(log, "observation")[:, 0].tolist() == list(range(400))


def test_messages_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    def write(put: Put) -> None:
        for k in (0, 2, 1, 3, 5, 4):
            put(JOINTS, START + 10 * k * MS, joints(START + 10 * k * MS, ["a"], [k]))
        put(COMMAND, START, command([0]))

    log = read_log(bags.mcap(tmp_path / "a.mcap", write), AT_EACH)
    assert column(log, "observation")[:, 0].tolist() == list(range(6))


def test_a_stamp_of_another_year_makes_no_endless_grid(tmp_path: Path) -> None:
    def write(put: Put) -> None:
        bags.steady(put)
        put(JOINTS, START + 4 * 10**17, joints(START + 4 * 10**17, ["a", "b"], [0, 0]))

    path = bags.mcap(tmp_path / "a.mcap", write)
    with pytest.raises(LogError, match=r"20,000,000,000 rows between.*stamps: receive"):
        read_log(path, MAP)


def test_fields_of_bags_are_errors_for_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, observation=np.zeros((3, 1)), action=np.zeros((3, 1)), reward=np.zeros(3))
    with pytest.raises(LogError, match="row_at is for bags, and this is read as npz"):
        read_log(path, {"row_at": "/x"})


# The command.


def test_inspect_lists_topics_without_a_map(tmp_path: Path, capsys: Any) -> None:
    path = bags.rosbag(tmp_path / "bag", bags.steady)
    assert inspect.main([str(path)]) == 1
    shown = capsys.readouterr().out
    assert "sensor_msgs/msg/JointState" in shown and "100 Hz" in shown and "10 ms" in shown
    assert "no column looks like the observation" in shown
    assert inspect.main([str(path), "--json"]) == 1
    about = json.loads(capsys.readouterr().out)
    assert about["topics"][COMMAND]["messages"] == 100
    assert inspect.main([str(path), "--columns", json.dumps(MAP), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["topics"][JOINTS]["age_s"] == {"median": 0.001, "max": 0.001}
    assert about["transitions"] == 50
