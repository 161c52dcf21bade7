"""The log: packed to the bit, gathered, joined, saved whole or not at all, refused with reason."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_logs import Columns, everything, five, pictures, same, small
from strategies import log_columns, signed_words

from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    EPISODE_END,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
    key_of,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import Source
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import episode_columns

NEEDED = [OBSERVATION, ACTION, NEXT_OBSERVATION, REWARD, TERMINATED, TRUNCATED, EPISODE]
ADDED: Columns = {"return_to_go": torch.arange(5.0), "rank": torch.tensor([4, 3, 2, 1, 0])}


# --- keys and episodes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"),
    [("action", "action"), (("next", "reward"), "next.reward"), (("a", "b", "c"), "a.b.c")],
)
def test_keys_have_names_and_names_keys(key: Key, name: str) -> None:
    assert key_name(key) == name and key_of(name) == key


def test_episode_columns_by_hand() -> None:
    made = episode_columns(torch.tensor([7, 7, 7, 2, 5, 5]))
    assert made[EPISODE].tolist() == [0, 0, 0, 1, 2, 2]
    assert made[STEP].tolist() == [0, 1, 2, 0, 0, 1]
    assert made[EPISODE_END].tolist() == [2, 2, 2, 3, 5, 5]


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_episode_columns_count_any_episodes(lengths: list[int]) -> None:
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)) % 2
    made = episode_columns(ids)
    ends = np.cumsum(lengths) - 1
    expected = [
        (number, step, ends[number])
        for number, length in enumerate(lengths)
        for step in range(length)
    ]
    assert [tuple(row) for row in torch.stack(list(made.values()), 1).tolist()] == expected
    assert list(made) == [EPISODE, STEP, EPISODE_END]


# --- from columns, and back -----------------------------------------------------------------------


def test_a_small_log_by_hand() -> None:
    log = small()
    assert len(log) == 5 and log.episodes == 2
    assert log.column(EPISODE).tolist() == [0, 0, 0, 1, 1]
    assert log.column(STEP).tolist() == [0, 1, 2, 0, 1]
    assert log.column(EPISODE_END).tolist() == [2, 2, 2, 4, 4]
    assert log.episode_ends().tolist() == [2, 4]
    assert log.shape(OBSERVATION) == (2,) and log.shape(REWARD) == ()
    assert log.drawable().tolist() == [0, 1, 2, 3, 4]
    assert log.sources == (Source(0, 5, 1.0, "log 0"),)
    assert log.info == {"source": "log 0", "rate": 30}
    assert set(log.keys()) == {*NEEDED, STEP, EPISODE_END} and len(log.keys()) == 9
    assert OBSERVATION in log and "task" not in log
    assert Log.from_columns(five()).sources[0].name == "memory"


@given(columns=log_columns(), data=st.data())
def test_what_goes_in_comes_out_to_the_bit(columns: Columns, data: st.DataObject) -> None:
    """Real, integer and boolean columns of any shape, whole or gathered in any order and shape."""
    log = Log.from_columns(columns)
    rows = st.lists(st.integers(0, len(log) - 1), min_size=6, max_size=6)
    index = torch.tensor(data.draw(rows)).view(
        data.draw(st.sampled_from([(6,), (2, 3), (1, 6, 1)]))
    )
    batch = log.gather(index)
    assert batch.batch_size == index.shape and torch.equal(batch["index"], index)
    for key, value in columns.items():
        if key == EPISODE:
            continue
        whole = log.column(key)
        assert whole.dtype == value.dtype and torch.equal(whole, value)
        assert batch[key].dtype == value.dtype and torch.equal(batch[key], value[index])
        assert log.shape(key) == tuple(value.shape[1:])


@given(values=st.lists(signed_words, min_size=5, max_size=5))
def test_integers_pass_the_real_matrix_unchanged(values: list[int]) -> None:
    """Words whose bits are NaN, infinity or subnormal as float32 among them."""
    log = small(tag=torch.tensor(values))
    assert log.column("tag").tolist() == values
    assert log.gather(torch.arange(5))["tag"].tolist() == values


def test_every_kind_of_word_survives_pack_gather_and_disk(tmp_path: Path) -> None:
    """Integers whose bits are a signalling NaN (0x7FA00000), infinity, a subnormal, -0."""
    words = [0x7FA00000, 0x7F800000, 1, -(2**31), -1]
    log = small(tag=torch.tensor(words), flag=torch.tensor([True, False, True, True, False]))
    log.save(tmp_path / "log")
    for held in (log, Log.load(tmp_path / "log"), Log.concatenate([log, log], [1, 1])):
        batch = held.gather(torch.arange(5))
        assert batch["tag"].tolist() == words and batch["tag"].dtype == torch.int64
        assert batch["flag"].tolist() == [True, False, True, True, False]
        assert batch["flag"].dtype == torch.bool


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64]
)
def test_integers_of_any_width_are_taken(dtype: type) -> None:
    log = small(tag=np.array([0, 1, 2, 100, 127], dtype))
    assert log.column("tag").tolist() == [0, 1, 2, 100, 127]
    assert log.column("tag").dtype == torch.int64


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_real_numbers_of_any_width_become_single(dtype: type) -> None:
    log = small(tag=np.array([0.5, -1, 2, 0.25, 1000], dtype))
    assert log.column("tag").tolist() == [0.5, -1, 2, 0.25, 1000]
    assert log.column("tag").dtype == torch.float32


def test_images_stay_bytes_beside_the_matrix() -> None:
    log = small(camera=pictures())
    assert list(log.images) == ["camera"] and "camera" in log and "camera" in log.keys()
    assert log.shape("camera") == (2, 2, 3)
    assert log.blocks[0].matrix.shape[1] == small().blocks[0].matrix.shape[1]
    batch = log.gather(torch.tensor([[4, 0], [1, 1]]))
    assert batch["camera"].dtype == torch.uint8
    assert torch.equal(batch["camera"], pictures()[torch.tensor([[4, 0], [1, 1]])])


def test_gathering_takes_any_shape_of_index() -> None:
    log = small(camera=pictures(), pixel=torch.arange(5, dtype=torch.uint8))
    single = log.gather(torch.tensor(3))
    assert single[REWARD].item() == 8.0 and single["pixel"].item() == 3
    assert torch.equal(single["camera"], pictures()[3])
    empty = log.gather(torch.zeros(2, 0, dtype=torch.int64))
    assert empty.batch_size == (2, 0) and empty[OBSERVATION].shape == (2, 0, 2)


def test_a_batch_is_a_copy_and_the_input_is_kept() -> None:
    columns = five()
    before = {key: value.clone() for key, value in columns.items()}
    log = Log.from_columns(columns)
    log.gather(torch.arange(5))[REWARD].fill_(99.0)
    assert log.column(REWARD).tolist() == [1, 2, 4, 8, 16]
    assert all(torch.equal(columns[key], before[key]) for key in columns)
    assert list(columns) == list(before)


def test_an_unknown_column_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        LogError, match=r"log 0: the log has no 'task'\. It holds: action, .*step\."
    ):
        small().column("task")


@pytest.mark.parametrize("key", NEEDED, ids=key_name)
def test_a_missing_column_is_refused(key: Key) -> None:
    columns = five()
    del columns[key]
    with pytest.raises(LogError, match=f"column '{key_name(key)}': a log needs this column. Add"):
        Log.from_columns(columns)


@pytest.mark.parametrize("key", [ACTION, REWARD, "extra"], ids=key_name)
def test_columns_of_other_lengths_are_refused(key: Key) -> None:
    columns = five() | {key: torch.zeros(4)}
    message = f"column '{key_name(key)}': 4 rows where 'episode' has 5. Make all columns the same"
    with pytest.raises(LogError, match=message):
        Log.from_columns(columns)


def test_an_empty_log_is_refused() -> None:
    with pytest.raises(LogError, match="the log is empty. Give at least one transition"):
        Log.from_columns({key: value[:0] for key, value in five().items()})


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**40])
def test_an_integer_beyond_32_bits_is_refused(value: int) -> None:
    tag = torch.tensor([0, 0, value, 0, 0])
    with pytest.raises(LogError, match="column 'tag': an integer does not fit 32 bits. Renumber"):
        small(tag=tag)


# --- further columns and rows ---------------------------------------------------------------------


def test_columns_are_added_beside_what_was_read() -> None:
    log = small(camera=pictures())
    more = log.with_columns(ADDED)
    assert more.keys() == [*log.keys()[:-1], *ADDED, "camera"] and "rank" not in log
    batch = more.gather(torch.tensor([4, 1]))
    assert batch["return_to_go"].tolist() == [4, 1] and batch["rank"].tolist() == [0, 3]
    assert batch[REWARD].tolist() == [16, 2] and "camera" in batch.keys()
    assert log.with_columns({}) is log


def test_a_column_is_replaced_wherever_it_lay() -> None:
    """One that was read, one that was added, an image; the log it came from keeps its own."""
    log = small(camera=pictures()).with_columns(ADDED)
    changed: Columns = {
        REWARD: -torch.arange(5.0),
        "rank": torch.arange(5),
        "camera": torch.ones(5),
    }
    more = log.with_columns(changed)
    assert sorted(more.keys(), key=key_name) == sorted(log.keys(), key=key_name)
    batch = everything(more)
    for key, value in changed.items():
        assert torch.equal(more.column(key), value) and torch.equal(batch[key], value)
        assert more.shape(key) == ()
    assert torch.equal(batch["return_to_go"], ADDED["return_to_go"])
    assert log.column(REWARD).tolist() == [1, 2, 4, 8, 16]
    assert log.column("rank").tolist() == [4, 3, 2, 1, 0]
    assert torch.equal(log.column("camera"), pictures())


def test_a_column_rewritten_many_times_does_not_pile_up() -> None:
    """What a sweep over the log writes every N updates replaces what it wrote before."""
    log = small()
    for number in range(20):
        log = log.with_columns(
            {"advantage": torch.full((5,), float(number)), REWARD: torch.ones(5)}
        )
    assert len(log.blocks) == 2
    assert log.column("advantage").tolist() == [19.0] * 5


def test_an_added_column_of_another_length_is_refused() -> None:
    with pytest.raises(LogError, match="column 'advantage': 3 rows where the log has 5"):
        small().with_columns({"advantage": torch.zeros(3)})


def test_rows_are_chosen_or_kept() -> None:
    log = small()
    chosen = log.with_rows(torch.tensor([1, 4]))
    assert chosen.drawable().tolist() == [1, 4] and len(chosen) == 5
    assert chosen.with_rows(None) is chosen
    assert chosen.with_columns(ADDED).packed().drawable().tolist() == [1, 4]
    assert log.rows is None


def test_packing_joins_the_blocks_and_changes_nothing_else(tmp_path: Path) -> None:
    log = small(camera=pictures())
    assert log.packed() is log
    more = log.with_columns(ADDED).with_columns({REWARD: torch.zeros(5)})
    packed = more.packed()
    assert len(more.blocks) == 3 and len(packed.blocks) == 1
    assert same(everything(packed), everything(more))
    assert packed.sources == more.sources and packed.info == more.info

    small().save(tmp_path / "log")
    mapped = Log.load(tmp_path / "log").with_columns(ADDED)
    assert mapped.packed() is mapped  # a matrix on disk is not copied into memory


# --- several logs ---------------------------------------------------------------------------------


def test_logs_are_joined_with_episodes_renumbered() -> None:
    one, two = small(), small(100.0)
    log = Log.concatenate([one, two, one], [1, 0.5, 3])
    assert len(log) == 15 and log.episodes == 6
    assert log.column(EPISODE).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert log.column(STEP).tolist() == [0, 1, 2, 0, 1] * 3
    assert log.column(EPISODE_END).tolist() == [2, 2, 2, 4, 4, 7, 7, 7, 9, 9, 12, 12, 12, 14, 14]
    assert log.sources == (
        Source(0, 5, 1.0, "log 0"),
        Source(5, 10, 0.5, "log 100"),
        Source(10, 15, 3.0, "log 0"),
    )
    assert log.info == {"source": ["log 0", "log 100", "log 0"], "rate": 30}
    assert log.rows is None and one.info["source"] == "log 0"
    for key in (OBSERVATION, ACTION, NEXT_OBSERVATION, REWARD, TERMINATED, TRUNCATED):
        expected = torch.cat([part.column(key) for part in (one, two, one)])
        assert torch.equal(log.column(key), expected)


def test_joining_keeps_images_added_columns_and_chosen_rows() -> None:
    one = small(camera=pictures()).with_columns(ADDED)
    log = Log.concatenate([one, one.with_rows(torch.tensor([0, 3]))], [1, 1])
    assert list(log.images) == ["camera"] and len(log.blocks) == 1
    assert torch.equal(log.column("camera"), pictures().repeat(2, 1, 1, 1))
    assert log.column("rank").tolist() == [4, 3, 2, 1, 0] * 2
    assert log.drawable().tolist() == [0, 1, 2, 3, 4, 5, 8]


def test_joined_logs_in_memory_are_one_block(tmp_path: Path) -> None:
    """Also where one of them lies on disk."""
    small().save(tmp_path / "log")
    log = Log.concatenate([Log.load(tmp_path / "log"), small()], [1, 1])
    assert "memory_mapped" not in log.info
    assert len(log.with_columns({"advantage": torch.zeros(10)}).packed().blocks) == 1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(LogError, match=f"log 100: weight {weight} is not positive. Give a number"):
        Log.concatenate([small(), small(100.0)], [1, weight])


def test_each_log_needs_one_weight() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Log.concatenate([small(), small()], [1])


@pytest.mark.parametrize(
    ("other", "column"),
    [
        (five(rank=torch.zeros(5)), "rank"),
        (five() | {ACTION: torch.zeros(5, 2)}, "action"),
        (five() | {ACTION: torch.zeros(5, 1, dtype=torch.int64)}, "action"),
        (five() | {OBSERVATION: torch.zeros(5, 2, dtype=torch.uint8)}, "observation"),
    ],
    ids=["another column", "another shape", "another dtype", "an image"],
)
def test_logs_that_differ_are_not_joined(other: Columns, column: str) -> None:
    odd = Log.from_columns(other, {"source": "odd"})
    message = f"odd, column '{column}': this source does not have the shape and dtype of the first"
    with pytest.raises(LogError, match=message):
        Log.concatenate([small(), odd], [1, 1])
    with pytest.raises(LogError, match=message.replace("odd,", "log 0,")):
        Log.concatenate([odd, small()], [1, 1])


# --- errors and real logs -------------------------------------------------------------------------


def test_an_error_says_where_what_and_the_mend() -> None:
    error = LogError("it is bad", "Fix it.", path="a.npz", column="obs", row=3)
    assert str(error) == "a.npz, column 'obs', row 3: it is bad. Fix it."
    assert (error.path, error.column, error.row) == ("a.npz", "obs", 3)
    assert str(LogError("it is bad", "Fix it.")) == "it is bad. Fix it."
    assert str(LogError("it is bad", "Fix it.", row=0)) == "row 0: it is bad. Fix it."
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("name", ["pendulum_medium_sac_50eps", "pendulum_replay_v1.1.0"])
def test_a_real_log_is_held_to_the_bit(data: Path, tmp_path: Path, name: str) -> None:
    """Every row of a recorded log through packing, disk, memory map and a scattered gather."""
    raw = np.load(data / "rllib_pendulum" / f"{name}.npz", allow_pickle=False)
    columns = {
        OBSERVATION: raw["obs"],
        ACTION: raw["action"],
        NEXT_OBSERVATION: raw["next_obs"],
        REWARD: raw["reward"],
        TERMINATED: np.zeros_like(raw["done"]),
        TRUNCATED: raw["episode_end"],
        EPISODE: raw["episode"],
    }
    Log.from_columns(columns).save(tmp_path / "log")
    log = Log.load(tmp_path / "log")
    count = int(raw["episode_end"].sum())
    assert log.episodes == count and len(log) == len(raw["obs"])
    assert np.array_equal(log.episode_ends(), np.flatnonzero(raw["episode_end"]))
    index = torch.randperm(len(log), generator=torch.Generator().manual_seed(0)).view(-1, 100)
    batch = log.gather(index)
    for key, value in columns.items():
        if key != EPISODE:
            assert np.array_equal(batch[key].numpy(), value[index.numpy()])
    starts = torch.cat([torch.tensor([0]), log.episode_ends()[:-1] + 1])
    assert torch.equal(batch[STEP], index - starts[batch[EPISODE]])
