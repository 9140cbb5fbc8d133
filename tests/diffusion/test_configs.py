"""Sizes in files: what is small changes what is released, and a name that changes nothing is refused."""

import json
import sys

import pytest

from vcorr.contract.errors import PluginError
from vcorr.diffusion.configs import packaged_configs


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one model's released configurations; files of the small size are added by the test."""
    folder = tmp_path / "sized" / "configs" / "one"
    (folder / "small").mkdir(parents=True)
    (tmp_path / "sized" / "__init__.py").touch()
    (folder / "transformer.json").write_text(json.dumps({"num_layers": 28, "patch_size": 2}))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sized", raising=False)
    packaged_configs.cache_clear()
    yield folder
    packaged_configs.cache_clear()


def test_small_files_change_released_ones(package):
    (package / "small" / "transformer.json").write_text(json.dumps({"num_layers": 2}))
    (package / "small" / "video.json").write_text(json.dumps({"height": 64}))
    found = packaged_configs("sized:configs/one", "small")
    assert found == {"transformer": {"num_layers": 2, "patch_size": 2}, "video": {"height": 64}}
    assert packaged_configs("sized:configs/one")["transformer"]["num_layers"] == 28


def test_a_small_file_that_changes_nothing_is_refused(package):
    (package / "small" / "transfomer.json").write_text("{}")
    with pytest.raises(PluginError, match=r"changes nothing.*Did you mean 'transformer'"):
        packaged_configs("sized:configs/one", "small")


def test_a_model_without_small_files_has_no_small_size(package):
    with pytest.raises(PluginError, match="has no small size") as raised:
        packaged_configs("sized:configs/one", "small")
    assert "small" in raised.value.hint


@pytest.mark.parametrize(
    ("video", "said"),
    [
        ({"widht": 64}, r"'widht'.*Did you mean 'width'"),
        ({"width": "64"}, r"width is '64', not a whole number above 0"),
        ({"frames": 0}, r"frames is 0, not a whole number above 0"),
        ({"frames": True}, r"frames is True, not a whole number above 0"),
    ],
)
@pytest.mark.parametrize("size", ["released", "small"])
def test_the_size_of_the_video_is_whole_numbers(package, video, said, size):
    (package / "small" / "transformer.json").write_text("{}")
    (package / ("small" if size == "small" else ".") / "video.json").write_text(json.dumps(video))
    with pytest.raises(PluginError, match=said) as raised:
        packaged_configs("sized:configs/one", size)
    assert "video.json" in raised.value.message
