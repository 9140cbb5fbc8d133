"""Following points window by window: what a tracker finds in a whole video is found in windows of any length."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases

from vcorr.contract.records import Queries, Tracks
from vcorr.tracking.window_chain import count_reads, split_into_windows, track_in_windows, window_length


class Numbered:
    """A video whose frame t has the value t in every pixel. It counts what is read."""

    shown_size = 4, 4

    def __init__(self, frames):
        self.times = np.arange(frames) / 10
        self.most = 0
        self.reads = []

    def read(self, first, stop):
        assert 0 <= first < stop <= len(self.times)
        self.most = max(self.most, stop - first)
        self.reads.append((first, stop))
        return (
            np.full((stop - first, 4, 4, 3), 0, np.uint8) + np.arange(first, stop, dtype=np.uint8)[:, None, None, None]
        )


def path(t):
    """Returns where everything is in frames t: irregular, in whole pixels, so that sums are exact in float32."""
    return np.stack([(t * 7) % 11 - 3 * t, (t * 5) % 13], axis=-1).astype(np.float32)


class Mover:
    """A tracker that knows `path` from the values of pixels. Points in frames of `hidden` are lost from there on."""

    def __init__(self, hidden=(), recovers=False, sure=True):
        self.hidden, self.recovers, self.sure = hidden, recovers, sure

    def track(self, video, queries):
        t = video[:, 0, 0, 0].astype(int)
        moved = path(t)
        xy = queries.xy[:, None] + moved[None] - moved[queries.t][:, None]
        visible = np.repeat(~np.isin(t, self.hidden)[None], len(queries), axis=0)
        visible[np.arange(len(queries)), queries.t] = True
        if not self.recovers:
            for n, start in enumerate(queries.t):
                for order in (range(start + 1, len(t)), range(start - 1, -1, -1)):
                    lost, last = False, start
                    for i in order:
                        lost |= not visible[n, i]
                        visible[n, i] = not lost
                        xy[n, i] = xy[n, last] if lost else xy[n, i]
                        last = last if lost else i
        confidence = np.where(visible, 0.75, 0.0).astype(np.float32) if self.sure else None
        return Tracks(xy.astype(np.float32), visible, "mover", 3, confidence=confidence)


@draw_cases(60)
@given(st.data())
def test_the_length_of_windows_changes_no_track_of_a_tracker_that_chains_steps(data):
    frames = data.draw(st.integers(2, 40))
    length = data.draw(st.integers(2, 45))
    t = data.draw(st.lists(st.integers(0, frames - 1), min_size=1, max_size=6))
    hidden = data.draw(st.lists(st.integers(0, frames - 1), max_size=2))
    queries = Queries(np.array(t), np.arange(2 * len(t), dtype=np.float32).reshape(-1, 2))
    video, tracker = Numbered(frames), Mover(hidden)
    found = track_in_windows(tracker.track, video, queries, length)
    whole = tracker.track(Numbered(frames).read(0, frames), queries)
    assert np.array_equal(found.xy, whole.xy)
    assert np.array_equal(found.visible, whole.visible)
    assert np.array_equal(found.confidence, whole.confidence)
    assert (found.tracker, found.version) == ("mover", 3)
    assert video.most <= length


@draw_cases(40)
@given(st.integers(2, 400), st.integers(2, 60))
def test_windows_cover_all_frames_and_neighbours_share_one(frames, length):
    windows = split_into_windows(frames, length)
    assert windows[0].first == 0
    assert windows[-1].last == frames - 1
    assert all(before.last == after.first for before, after in pairwise(windows))
    assert all(1 <= one.last - one.first <= length - 1 for one in windows)


def test_a_point_that_is_hidden_between_two_windows_is_lost_and_elsewhere_it_may_return():
    queries = Queries.at(np.array([[5.0, 5.0]], np.float32))
    inside = track_in_windows(Mover([3], recovers=True).track, Numbered(12), queries, 6)
    assert inside.visible[0].tolist() == [t != 3 for t in range(12)]
    shared = track_in_windows(Mover([5], recovers=True).track, Numbered(12), queries, 6)
    assert shared.visible[0].tolist() == [t < 5 for t in range(12)]
    assert (shared.xy[0, 6:] == shared.xy[0, 5]).all()
    assert not shared.confidence[0, 5:].any()


def test_frames_are_read_once_forwards_and_only_where_a_point_needs_them_backwards():
    video = Numbered(31)
    track_in_windows(Mover().track, video, Queries(np.array([0, 12]), np.zeros((2, 2), np.float32)), 11)
    assert video.reads == [(0, 11), (10, 21), (20, 31), (0, 11)]
    late = Numbered(31)
    track_in_windows(Mover().track, late, Queries.at(np.zeros((1, 2), np.float32), 25), 11)
    assert late.reads == [(20, 31), (10, 21), (0, 11)]
    assert count_reads(31, Queries.at(np.zeros((1, 2), np.float32), 25), 11) == 33
    assert count_reads(31, Queries(np.array([0, 12]), np.zeros((2, 2), np.float32)), 11) == 44


def test_a_tracker_without_confidence_stays_without_it():
    queries = Queries.at(np.zeros((1, 2), np.float32), 4)
    assert track_in_windows(Mover(sure=False).track, Numbered(9), queries, 4).confidence is None


def test_a_window_has_fewer_frames_the_larger_they_are():
    lengths = [window_length(size) for size in ((96, 96), (854, 480), (1024, 576), (3840, 2160))]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] >= 16
    assert lengths[1] * 854 * 480 * 3 <= 1 << 27
