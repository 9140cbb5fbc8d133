"""Layers of points and layer maps of dataset folders: kept bit for bit, and part of what a clip is."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.folders import check_all, make_folder, open_folder, row

from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.data.video.layer_maps import layers_hash, read_layers, write_layers


def test_a_layer_map_comes_back_bit_for_bit_with_the_layers_of_the_points(tmp_path):
    made = make_folder(tmp_path / "small")
    before = open_folder(made.path).identity()
    layers = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    first = dataclasses.replace(made.rows()[0], point_layers=np.int32([0, 3, -1]))
    made.write(made.write_layers(first, layers))
    data = open_folder(made.path)
    clip, other = data.clip("clip-0"), data.clip("clip-1")
    np.testing.assert_array_equal(clip.layers, layers, strict=True)
    np.testing.assert_array_equal(clip.tracks.layer, np.int32([0, 3, -1]), strict=True)
    assert (other.layers, other.tracks.layer) == (None, None)
    after = data.identity()
    assert after["clips"]["clip-1"] == before["clips"]["clip-1"]
    assert after["clips"]["clip-0"] != before["clips"]["clip-0"]
    check_all(made.path)


def test_a_video_in_colour_is_no_layer_map(tmp_path):
    made = make_folder(tmp_path / "small")
    first = made.rows()[0]
    made.write(dataclasses.replace(first, layers=first.video))  # without a hash, as other programs may write it
    with pytest.raises(StoreError, match=r"Clip clip-0: .*clip-0.mkv holds a video in colour, not a layer map"):
        check_all(made.path)


def test_each_thing_that_is_known_of_layers_has_a_hash_of_its_own():
    plain, timed = row(), row(query_frames=np.int32([1, 0, 2]))
    known = {"video": "v", "layers": "layers/clip-0.mkv", "layers_sha256": "a"}
    rows = [
        plain,
        timed,
        row(point_layers=np.int32([1, 0, 2])),  # the same bytes as the frames of `timed`
        row(point_layers=np.int32([0, 0, 0])),
        row(**known),
        row(**{**known, "layers_sha256": "b"}),
        row(**known, point_layers=np.int32([1, 0, 2])),
    ]
    assert len({each.identity() for each in rows}) == len({each.tracks_hash() for each in rows}) == len(rows)
    # as they were before layers could be known
    assert plain.tracks_hash() == "2e6c02deb6610a412c9e15e94f13c06c82cdd01f0733e0e00be52113cfe5fc7d"
    assert plain.identity() == "76d2c2442bb7d56b109dd8c1f7ddc16d73cc1d8c8828177216a809c9c6e1bab1"


def test_a_layer_map_that_is_missing_or_another_one_is_named(tmp_path):
    made = make_folder(tmp_path / "small")
    layers = np.zeros((5, 64, 64), np.uint8)
    made.write(made.write_layers(made.rows()[1], layers))
    path = made.path / "layers/clip-1.mkv"
    write_layers(path, layers + np.uint8(1), 8)
    for read in (check_all, lambda path: open_folder(path).clip("clip-1")):
        with pytest.raises(
            StoreError, match=r"Clip clip-1: .*layers/clip-1.mkv does not hold the layer map"
        ) as refused:
            read(made.path)
        assert "Get that file again" in refused.value.hint
        path.rename(path.with_suffix(".away"))
        with pytest.raises(MissingError, match=r"Clip clip-1: its layer map .*layers/clip-1.mkv is missing"):
            read(made.path)
        path.with_suffix(".away").rename(path)
    with pytest.raises(
        UsageError, match=r"Clip clip-1: layers must have the frames and size of the video, \(5, 64, 64\)"
    ):
        made.write_layers(made.rows()[1], layers[:, :9])


@pytest.mark.parametrize("shape", [(1, 2, 2), (5, 33, 47)])
def test_layer_maps_of_any_size_and_values(tmp_path, shape):
    layers = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert write_layers(tmp_path / "map.mkv", layers, 8) == layers_hash(layers)
    np.testing.assert_array_equal(read_layers(tmp_path / "map.mkv"), layers, strict=True)
    for wrong in (layers[0], layers.astype(np.int32), layers[:0]):
        with pytest.raises(UsageError, match="A layer map is a uint8 array"):
            write_layers(tmp_path / "map.mkv", wrong, 8)


def test_no_layer_is_known_in_tables_of_the_layout_before_them(tmp_path):
    made = make_folder(tmp_path / "small")
    before = open_folder(made.path).identity()
    path = made.row_path("clip-0")
    old = pq.read_table(path).drop(["point_layers", "layers", "layers_sha256"])
    pq.write_table(old.replace_schema_metadata({"vcorr.schema_version": "3"}), path)
    data = open_folder(made.path)
    assert data.identity() == before
    assert (data.clip("clip-0").layers, data.clip("clip-0").tracks.layer) == (None, None)
    pq.write_table(old.replace_schema_metadata({"vcorr.schema_version": "4"}), path)
    with pytest.raises(UsageError, match="lacks the column 'point_layers'"):
        open_folder(made.path)
