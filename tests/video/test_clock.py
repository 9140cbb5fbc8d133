"""Time: one clock per clip, and a rate that dropped frames do not change."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import videos

from vcorr.contract.errors import UsageError
from vcorr.data.video import read_video
from vcorr.data.video.clock import ClockError, Rates, count_times, rates_of, read_times


def frames_at(times):
    return [SimpleNamespace(time=time) for time in times]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("arguments", [{}, {"fps": 10}, {"frames": 3}, {"fps": 5}, {"fps": 10, "frames": 3}])
def test_an_avi_with_b_frames_is_counted_in_the_order_of_display(tmp_path, codec, arguments):
    best = {"bit_rate": 4_000_000, "qmax": 2}
    path = videos.write(tmp_path / "a.avi", videos.numbered(20, 32, 32), codec=codec, options={"bf": "2"}, tags=best)
    read = read_video(path, **arguments)
    step = round(10 / arguments.get("fps", 10))
    expected = list(range(0, 20, step))[: arguments.get("frames", 20)]
    assert videos.numbers(read.frames) == expected
    assert read.times == pytest.approx([number / 10 for number in expected])
    assert any("AVI file with B-frames" in note and "counted at 10 frames a second" in note for note in read.notes)
    assert not read.info.variable_rate


@given(steps=st.lists(st.sampled_from([0.04, 0.08, 0.04, 1.0, 9.0]), max_size=12))
def test_times_that_increase_are_kept(steps):
    times = np.concatenate([[7.0], 7 + np.cumsum(steps)])
    assert [one.time for one in read_times(frames_at(times), 25)] == pytest.approx(times - 7)


@given(
    count=st.integers(2, 12),
    data=st.data(),
    fault=st.sampled_from(["again", "back", "far", "missing"]),
)
def test_times_with_a_fault_are_refused_wherever_it_is(count, data, fault):
    at = data.draw(st.integers(1, count - 1))
    times: list[float | None] = [index / 10 for index in range(count)]
    if fault == "missing":
        times[at] = None
    else:
        shift = {"again": -0.1, "back": -5.0, "far": 60.0}[fault]
        times[at:] = [index / 10 + shift for index in range(at, count)]
    with pytest.raises(ClockError):
        list(read_times(frames_at(times), 10))
    counted = [one.time for one in count_times(frames_at(times), 10)]
    assert counted == pytest.approx([index / 10 for index in range(count)])


def test_a_first_frame_without_a_time_is_a_missing_time():
    with pytest.raises(ClockError, match="some of its frames have no time"):
        list(read_times(frames_at([None, 0.1, 0.2]), 10))


def test_without_any_times_frames_are_counted():
    assert [one.time for one in read_times(frames_at([None] * 3), 10)] == [0, 0.1, 0.2]


def test_slides_keep_their_times_and_a_jump_does_not():
    assert [one.time for one in read_times(frames_at([0, 20, 40]), 0.05)] == [0, 20, 40]
    with pytest.raises(ClockError, match=r"jump by 20 s \(frame 2\)"):
        list(read_times(frames_at([0, 0.1, 20.1]), 10))


def test_joined_recordings_whose_clock_starts_again_have_one_clock(tmp_path):
    part = videos.write(tmp_path / "part.ts", videos.numbered(10, 32, 32))
    path = tmp_path / "a.ts"
    path.write_bytes(part.read_bytes() * 2)
    read = read_video(path)
    assert videos.numbers(read.frames) == [*range(10), *range(10)]
    assert read.times == pytest.approx(np.arange(20) / 10)
    assert read.fps == 10
    assert any("its times do not increase (frame 10); its frames were counted at 10" in note for note in read.notes)
    assert videos.numbers(read_video(path, fps=5).frames) == [*range(0, 10, 2), *range(0, 10, 2)]
    # the frames before the fault keep the times of the file
    assert read_video(path, frames=10).info.clock == ""


def test_a_clip_with_dropped_frames_reads_at_its_own_rate(tmp_path):
    kept = [index for index in range(24) if index not in {5, 12, 13}]
    times = [round(index * 1000 / 30) for index in kept]
    video = videos.numbered(24, 32, 32)[kept]
    path = videos.write(tmp_path / "a.mp4", video, fps=30, times=times)
    read = read_video(path, fps=30)
    assert videos.numbers(read.frames) == [index if index in kept else (4 if index == 5 else 11) for index in range(24)]
    assert read.times == pytest.approx(np.arange(24) / 30)
    assert any("3 of the 24 frames repeat the one before" in note for note in read.notes)
    with pytest.raises(UsageError, match=r"a\.mp4 has 30 frames a second; 60 would repeat"):
        read_video(path, fps=60)


def test_a_guess_that_is_the_resolution_of_the_clock_is_no_rate():
    assert rates_of(SimpleNamespace(average_rate=28, guessed_rate=1000)) == Rates(28, 28)
    assert rates_of(SimpleNamespace(average_rate=29, guessed_rate=30)) == Rates(29, 30)
    assert rates_of(SimpleNamespace(average_rate=None, guessed_rate=None)).count == 25


def test_the_rate_of_a_regular_part_is_its_own(tmp_path):
    times = [0, 100, 200, 300, 400, 2000, 4000]
    path = videos.write(tmp_path / "a.mkv", videos.numbered(7, 32, 32), codec="ffv1", pixels="bgr0", times=times)
    read = read_video(path, frames=5)
    assert read.fps == pytest.approx(10)
    assert not read.info.variable_rate


@pytest.mark.parametrize("fps", [23.976, 29.97, 50, 120, 240])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_times_rounded_by_a_container_are_even(tmp_path, fps, suffix):
    codec = {"codec": "libvpx"} if suffix == ".webm" else {}
    path = videos.write(tmp_path / f"a{suffix}", videos.numbered(9, 32, 32), fps=fps, **codec)
    read = read_video(path)
    assert read.notes == ()
    assert read.fps == pytest.approx(fps, rel=1e-3)
    assert len(read_video(path, fps=read.fps).frames) == 9


def test_times_begin_with_the_first_frame_of_the_file(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(20, 32, 32), fps=10)
    assert read_video(path, start=0.8, frames=3).times == pytest.approx([0.8, 0.9, 1.0])
    assert read_video(path, start=0.8, fps=5, frames=3).times == pytest.approx([0.8, 1.0, 1.2])
