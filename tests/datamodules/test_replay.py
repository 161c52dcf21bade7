"""The replay: a window of whole episodes, in memory and in a file, and how it is taken up again."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_logs import everything, same
from small_replays import INFO, columns

from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.keys import EPISODE
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log

ROUNDS = [[3, 1], [2, 5], [4], [1, 1, 2], [5, 2], [3, 3], [1], [5, 4, 2]]


def filled(rounds: list[list[int]], capacity: int, folder: Path | None = None) -> Replay:
    """Return a replay of these rounds; with a folder it lies there from the second one on."""
    replay, first = Replay(capacity, INFO), 0
    for number, lengths in enumerate(rounds):
        if number == 1 and folder is not None:
            replay.to_file(folder)
        replay.append(columns(first, sum(lengths)), torch.tensor(lengths))
        first += sum(lengths)
    return replay


def expected(rounds: list[list[int]], capacity: int) -> Log:
    """Return the newest whole episodes that fit, made in one piece."""
    lengths = [length for each in rounds for length in each]
    total, kept = sum(lengths), 0
    held: list[int] = []
    for length in reversed(lengths):
        if kept + length > capacity:
            break
        held, kept = [length, *held], kept + length
    episode = torch.arange(len(held)).repeat_interleave(torch.tensor(held))
    return Log.from_columns(columns(total - kept, kept) | {EPISODE: episode}, INFO)


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("capacity", [5, 8, 13, 100])
def test_the_newest_whole_episodes_are_held(capacity: int, where: str, tmp_path: Path) -> None:
    """After every round: keys, bits, numbers of rows and episodes of a log made in one piece."""
    folder = tmp_path / "replay" if where == "file" else None
    for count in range(1, len(ROUNDS) + 1):
        rounds = ROUNDS[:count]
        log = filled(rounds, capacity, folder and folder / str(count)).log
        whole = expected(rounds, capacity)
        assert same(everything(log), everything(whole))
        assert (log.episodes, len(log)) == (whole.episodes, len(whole))
        assert log.sources == (whole.sources[0],)
        assert log.episode_ends().equal(whole.episode_ends())
    assert bool(log.info.get("memory_mapped")) == (where == "file")


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=12),
    st.integers(6, 30),
)
def test_any_rounds(rounds: list[list[int]], capacity: int) -> None:
    log, whole = filled(rounds, capacity).log, expected(rounds, capacity)
    assert same(everything(log), everything(whole))


def test_the_log_is_a_view() -> None:
    replay = filled(ROUNDS[:2], 100)
    one, two = replay.log, replay.log
    pairs = zip(one.blocks, two.blocks, strict=True)
    assert all(a.matrix.data_ptr() == b.matrix.data_ptr() for a, b in pairs)


def test_appending_copies_rows_a_bounded_number_of_times() -> None:
    """Rows are moved only when a quarter of the capacity has come in since the last time."""
    replay, moves, place = Replay(40, INFO), 0, 0
    for first in range(0, 400, 2):
        replay.append(columns(first, 2), torch.tensor([2]))
        before, place = place, replay.log.blocks[0].matrix.data_ptr()
        moves += place < before  # back to the front
    assert len(replay) == 40 and 1 <= moves <= (400 - 40) / (40 / 4)


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_checkpoint_takes_the_replay_up_again(where: str, tmp_path: Path) -> None:
    """Rows that came after the checkpoint are gone, and what follows is what would have."""
    folder = tmp_path / "replay" if where == "file" else None
    straight = filled(ROUNDS, 13, tmp_path / "straight" if folder else None)
    torch.save(filled(ROUNDS[:4], 13, folder).state_dict(), tmp_path / "some.ckpt")
    if folder:
        with (folder / "matrix.bin").open("ab") as file:
            file.write(b"rows of a round that was not checkpointed")
    resumed = Replay(13, INFO)
    resumed.append(columns(0, 4), torch.tensor([3, 1]))
    resumed.load_state_dict(torch.load(tmp_path / "some.ckpt", weights_only=True), folder)
    assert same(everything(resumed.log), everything(filled(ROUNDS[:4], 13).log))
    first = sum(map(sum, ROUNDS[:4]))
    for lengths in ROUNDS[4:]:
        resumed.append(columns(first, sum(lengths)), torch.tensor(lengths))
        first += sum(lengths)
    assert same(everything(resumed.log), everything(straight.log))
    one, two = (replay.state_dict() for replay in (resumed, straight))
    assert one.keys() == two.keys() and one.get("hash") == two.get("hash")


def test_a_checkpoint_holds_the_rows_that_are_left() -> None:
    """Not the matrix they lie in, which has room for the capacity and a quarter more."""
    rows = filled(ROUNDS, 13).state_dict()["rows"]
    assert rows.untyped_storage().nbytes() == 4 * rows.numel() and len(rows) == 12


def test_looking_at_a_checkpoint_cuts_nothing(tmp_path: Path) -> None:
    state = filled(ROUNDS[:3], 100, tmp_path / "a").state_dict()
    size = (tmp_path / "a" / "matrix.bin").stat().st_size
    with (tmp_path / "a" / "matrix.bin").open("ab") as file:
        file.write(b"more")
    looking = filled(ROUNDS[:1], 100)
    looking.load_state_dict(state, tmp_path / "a", cut=False)
    assert len(looking) == 15 and (tmp_path / "a" / "matrix.bin").stat().st_size == size + 4


# --- refusals -------------------------------------------------------------------------------------


def test_no_capacity() -> None:
    with pytest.raises(ValueError, match="capacity is 0 rows, it must be at least 1"):
        Replay(0, INFO)


def test_nothing_held() -> None:
    with pytest.raises(LogError, match="the replay is empty. Append episodes first"):
        Replay(5, INFO).log  # noqa: B018


def test_an_episode_that_does_not_fit() -> None:
    with pytest.raises(LogError, match="an episode of 6 steps does not fit a capacity of 5 rows"):
        filled([[2], [6]], 5)


def test_episodes_of_another_kind() -> None:
    replay = filled([[2]], 5)
    changed = columns(0, 2) | {"observation": torch.zeros(2, 3)}
    with pytest.raises(LogError, match=r"holds the columns \{.*\[0, \[2\], 'float32'\].*the new"):
        replay.append(changed, torch.tensor([2]))


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    filled(ROUNDS[:2], 9, tmp_path / "a")
    with pytest.raises(LogError, match="a: holds the replay of another run. Resume that run, ch"):
        filled(ROUNDS[:2], 9, tmp_path / "a")


def test_a_checkpoint_of_other_rows(tmp_path: Path) -> None:
    state = filled(ROUNDS[:2], 9).state_dict()
    other = Replay(9, INFO)
    other.append({"observation": torch.zeros(1, 2)}, torch.tensor([1]))
    with pytest.raises(LogError, match="the checkpoint holds the columns .* this replay"):
        other.load_state_dict(state)
    with pytest.raises(LogError, match="holds 8 rows, and the capacity is 6. Set capacity to 8"):
        filled(ROUNDS[:1], 6).load_state_dict(state)
    with pytest.raises(LogError, match="lies in the checkpoint itself. Set memory_map as in the"):
        filled(ROUNDS[:1], 9).load_state_dict(state, tmp_path)
    state = filled(ROUNDS[:2], 9, tmp_path / "a").state_dict()
    with pytest.raises(LogError, match="the replay of this run lies in a folder"):
        filled(ROUNDS[:1], 9).load_state_dict(state)


@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_a_file_that_is_not_the_checkpoints(damage: str, tmp_path: Path) -> None:
    state = filled(ROUNDS[:3], 100, tmp_path / "a").state_dict()
    file = tmp_path / "a" / "matrix.bin"
    told = {"missing": f"{file.stat().st_size} bytes are missing", "short": "5 bytes are missing"}
    if damage == "missing":
        file.unlink()
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-5])
    else:
        file.write_bytes(b"\1" + file.read_bytes()[1:])
    with pytest.raises(LogError, match=told.get(damage, "its bytes were changed")):
        filled(ROUNDS[:1], 100).load_state_dict(state, tmp_path / "a")
