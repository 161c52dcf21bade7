"""Windows: the rows around a row, never of another episode, against a loop that says so plainly."""

import pytest
import torch
from episode_logs import LENGTHS, bind, episode_log
from hypothesis import given
from hypothesis import strategies as st
from small_logs import pictures, small

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.datamodules.windows import Windows, check_rewritten, rows_before, rows_from
from hindsight_rl.keys import Key
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.returns import ScaleReward
from hindsight_rl.windows import Window, window_names

REWARD = ("next", "reward")
KEYS = (
    "observation",
    ("history", "observation"),
    ("history", "action"),
    ("chunk", "observation"),
    ("chunk", "action"),
    ("chunk", *REWARD),
)


def windows_of(log: Log, history: int = 3, chunk: int = 4) -> Windows:
    return Windows(log, Window(history, chunk), KEYS)


def test_names_are_those_of_columns() -> None:
    assert window_names(KEYS, "history") == ("observation", "action")
    assert window_names((*KEYS, ("chunk", "valid")), "chunk") == ("observation", "action", REWARD)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 5), st.integers(1, 5))
def test_rows_are_those_of_a_plain_loop(lengths: list[int], history: int, chunk: int) -> None:
    size = torch.tensor(lengths)
    end = (size.cumsum(0) - 1).repeat_interleave(size)
    first = (size.cumsum(0) - size).repeat_interleave(size)
    row = torch.arange(int(size.sum()))
    before, after = rows_before(row, row - first, history), rows_from(row, end, chunk)
    for r in row.tolist():
        low, high = int(first[r]), int(end[r])
        wanted = [r - back for back in range(history, 0, -1)]
        assert before.rows[r].tolist() == [max(w, low) for w in wanted]
        assert before.valid[r].tolist() == [w >= low for w in wanted]
        wanted = [r + ahead for ahead in range(chunk)]
        assert after.rows[r].tolist() == [min(w, high) for w in wanted]
        assert after.valid[r].tolist() == [w <= high for w in wanted]


def test_windows_by_hand() -> None:
    """Episodes of 3 and 2 rows, P = 2, C = 3: the rows around rows 1 and 3, and what they hold."""
    log = episode_log((3, 2))
    rows, step, end = torch.tensor([1, 3]), torch.tensor([1, 0]), torch.tensor([2, 4])
    before, after = rows_before(rows, step, 2), rows_from(rows, end, 3)
    assert before.rows.tolist() == [[0, 0], [3, 3]]
    assert before.valid.tolist() == [[False, True], [False, False]]
    assert after.rows.tolist() == [[1, 2, 2], [3, 4, 4]]
    assert after.valid.tolist() == [[True, True, False], [True, True, False]]
    windows = windows_of(log, history=2, chunk=3)
    sampler = ChunkSampler(log, Compose(), batch_size=2, beside=(windows,))
    batch = sampler.gather(rows[None], torch.zeros(1, 2, 3, dtype=torch.int64))[0]
    past, ahead = batch["history"], batch["chunk"]
    for part, around in ((past, before), (ahead, after)):
        assert part["valid"].equal(around.valid)
        assert part["observation"].equal(log.column("observation")[around.rows])
    action = log.column("action")
    none = torch.zeros(2)
    assert past["action"].equal(
        torch.stack([torch.stack([none, action[0]]), torch.stack([none, none])])
    )
    assert ahead["action"].equal(action[after.rows])
    assert ahead["next", "reward"].equal(log.column(REWARD)[after.rows] * after.valid)


def test_batch_holds_what_the_log_holds_there() -> None:
    log = episode_log()
    sampler = ChunkSampler(log, Compose(), batch_size=32, beside=(windows_of(log),))
    chunk = sampler.chunk(0, 3)
    observation, action, reward = (log.column(k) for k in ("observation", "action", REWARD))
    step, end = log.column("step"), log.column("episode_end")
    past, ahead = chunk["history"], chunk["chunk"]
    assert past["observation"].shape == (3, 32, 3, 3) and ahead["action"].shape == (3, 32, 4, 2)
    seen = set()
    for at in torch.cartesian_prod(torch.arange(3), torch.arange(32)).tolist():
        here = tuple(at)
        row = int(chunk["index"][here])
        for place, back in enumerate((3, 2, 1)):
            inside = back <= int(step[row])
            other = row - back if inside else row - int(step[row])
            seen.add(inside)
            assert bool(past["valid"][here][place]) == inside
            torch.testing.assert_close(past["observation"][here][place], observation[other])
            expected = action[other] if inside else torch.zeros(2)
            torch.testing.assert_close(past["action"][here][place], expected)
        for place in range(4):
            inside = row + place <= int(end[row])
            other = min(row + place, int(end[row]))
            assert bool(ahead["valid"][here][place]) == inside
            torch.testing.assert_close(ahead["action"][here][place], action[other])
            expected = reward[other] if inside else torch.zeros(())
            torch.testing.assert_close(ahead["next", "reward"][here][place], expected)
    assert seen == {True, False}


def test_the_action_of_the_row_is_not_in_its_own_history() -> None:
    """At the first step of an episode, the clamped row is the row itself: its action is hidden."""
    log = episode_log()
    index = (log.column("step") == 0).nonzero()[:, 0]
    batch = windows_of(log).attach(log.gather(index[None]))
    assert not batch["history", "valid"].any()
    assert not batch["history", "action"].any()
    assert log.column("action")[index].any()


def test_windows_are_the_same_with_several_seeds_and_chunk_sizes() -> None:
    log = episode_log()
    windows = windows_of(log)
    alone = ChunkSampler(log, Compose(), batch_size=8, seed=5, beside=(windows,)).chunk(2, 3)
    both = ChunkSampler(log, Compose(), batch_size=8, seed=4, seeds=2, beside=(windows,))
    for key in (("history", "observation"), ("chunk", "action"), ("chunk", "valid")):
        assert torch.equal(both.chunk(2, 3)[:, 1][key], alone[key])


@pytest.mark.parametrize("frames", [5, 7])  # one for every row; or one more for each episode
def test_frames_have_windows_too(frames: int) -> None:
    log, key = small(camera=pictures(frames)), "camera"
    windows = Windows(log, Window(history=2), (("history", key),))
    rows = torch.arange(len(log))
    batch = windows.attach(log.gather(rows[None]))
    expected = rows_before(rows, log.column("step"), 2).rows
    found = batch["history", key][0]
    assert found.dtype == torch.uint8
    assert torch.equal(found, log.column(key)[expected])


def test_column_that_is_not_there() -> None:
    with pytest.raises(LogError, match=r"a chunk of 'return_to_go', which the log lacks"):
        Windows(episode_log(), Window(chunk=2), (("chunk", "return_to_go"),))


@pytest.mark.parametrize(
    ("relabeler", "keys", "refused"),
    [
        (FutureGoal(), (("chunk", *REWARD),), True),
        (FutureGoal(), (("history", "task"),), True),
        (FutureGoal(), (("history", "observation"),), False),
    ],
)
def test_windows_of_what_is_rewritten_are_refused(
    relabeler: Relabeler, keys: tuple[Key, ...], refused: bool
) -> None:
    if not refused:
        check_rewritten([relabeler], keys)
        return
    with pytest.raises(LogError, match=f"{type(relabeler).__name__} rewrites it for single rows"):
        check_rewritten([relabeler], keys)


def test_columns_that_a_relabeler_finds_for_the_whole_log_have_windows() -> None:
    log, relabel = bind(episode_log(), Compose([ScaleReward(factor=2.0)]))
    check_rewritten(relabel.relabelers, KEYS)
    batch = windows_of(log, chunk=1).attach(log.gather(torch.arange(len(log))[None]))
    torch.testing.assert_close(
        batch["chunk", "next", "reward"][0, :, 0], 2.0 * episode_log().column(REWARD)
    )


def test_without_a_learner_there_are_no_windows() -> None:
    batch = OfflineDataModule(episode_log(LENGTHS), batch_size=4)._sampler().chunk(0, 1)
    assert "history" not in batch.keys() and "chunk" not in batch.keys()
