from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from ebmtrain.plots.animation import _pick_evenly, animate


def frames(folder, count):
    paths = [folder / f"landscape_{i:05d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.new("RGB", (90, 60), (5 * i % 256, 2 * i % 256, 255 - i)).save(path)
    return paths


def opened(data: bytes) -> Any:
    return Image.open(BytesIO(data))


def durations(gif):
    found = []
    for i in range(gif.n_frames):
        gif.seek(i)
        found.append(gif.info["duration"])
    return found


def test_repeats_and_holds_the_last_frame(tmp_path):
    gif = opened(animate(frames(tmp_path, 5), width=45, frame_ms=100, hold_ms=1500))
    assert gif.size == (45, 30)
    assert gif.info["loop"] == 0
    assert durations(gif) == [100, 100, 100, 100, 1500]


def test_frames_are_evenly_spaced(tmp_path):
    paths = frames(tmp_path, 101)
    chosen = _pick_evenly(paths, 11)
    assert [paths.index(path) for path in chosen] == list(range(0, 101, 10))
    assert opened(animate(paths, width=30)).n_frames == 40


def test_broken_files_are_skipped(tmp_path):
    paths = frames(tmp_path, 4)
    paths[0].write_bytes(b"not a picture")
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[3].unlink()
    gif = opened(animate(paths))
    assert gif.n_frames == 1


def test_no_readable_frame_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="none of 1"):
        animate([tmp_path / "absent.png"])
