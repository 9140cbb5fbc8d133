"""`vcorr generate`: videos out with their scores, as a run; and what is refused at the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import guiding, sliding

import vcorr as api

DRAW = ("generate", "--model", "drawer", "--tracker", "sure", "--set", "metrics=brightness")
ONE = (*DRAW, "--prompt", "a picture")


@pytest.fixture
def draw(vcorr, plugins):
    plugins(guiding)
    return vcorr


def read_json(ended) -> dict:
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_a_prompt_gives_a_video_and_its_scores(draw) -> None:
    ended = draw(*ONE)
    assert ended.code == 0, ended.err
    (video,) = Path("runs").glob("*/videos/*.mp4")
    assert f"Video: {video}" in ended.out
    assert "Guidance: none" in ended.out
    (line,) = [line for line in ended.out.splitlines() if "return_error" in line]
    assert line.split()[1] == "0.0000"
    read = api.read_video(video).frames
    assert read.shape[0] == sliding.FRAMES


def test_more_motion_is_called_neither_better_nor_worse(draw) -> None:
    ended = draw(*ONE, "--set", "metrics=brightness,dynamic-degree")
    assert ended.code == 0, ended.err
    better = {line.split()[0]: line.split()[2:] for line in ended.out.splitlines() if len(line.split()) > 2}
    assert (better["brightness"], better["dynamic_degree"]) == (["higher"], ["a", "guard"])


def test_json_has_the_score_of_every_clip(draw) -> None:
    Path("p.txt").write_text("a picture\nanother\n", encoding="utf-8")
    found = read_json(draw(*DRAW, "--data", "prompts:p.txt", "--json"))
    (bright, _) = found["scores"]
    assert set(bright["values"]) == {"prompt-0000", "prompt-0001"}
    assert bright["mean"] == pytest.approx(np.mean(list(bright["values"].values())))
    assert (len(found["videos"]), found["guidance"], found["status"]) == (2, None, "complete")


def test_flags_of_the_guidance_reach_it_and_two_guidances_compare(draw) -> None:
    Path("p.txt").write_text("a\nb\nc\n", encoding="utf-8")
    plain = read_json(draw(*DRAW, "--data", "prompts:p.txt", "--json"))
    flags = ("--guidance", "lamp", "--layers", "0,1", "--scale", "1.5", "--guidance-steps", "3", "--cfg", "6")
    guided = read_json(draw(*DRAW, "--data", "prompts:p.txt", *flags, "--json"))
    assert guided["guidance"] == {
        "guidance": "lamp",
        "guidance_scale": 1.5,
        "guidance_layers": "0,1",
        "guidance_steps": "3",
    }
    compared = read_json(draw("compare", guided["path"], plain["path"], "--metric", "brightness", "--json"))
    (row,) = compared["rows"]
    assert row["difference"]["estimate"] == pytest.approx(30)
    assert row["clips"] == 3
    shown = draw("show", "run", guided["path"]).out
    assert "brightness" in shown
    assert "lamp, scale 1.5, layers 0,1, steps 3, cfg 6" in " ".join(shown.split())


def test_the_shown_command_makes_the_same_run(draw) -> None:
    first = read_json(draw(*ONE, "--guidance", "lamp", "--layers", "1", "--num-steps", "7", "--seed", "3", "--json"))
    shown = json.loads(draw("show", "run", first["path"], "--json").out)["command"]
    words = shlex.split(shown)
    assert words[:2] == ["vcorr", "generate"]
    assert read_json(draw(*words[1:], "--out", "elsewhere", "--json"))["run"] == first["run"]


def test_a_dry_run_makes_nothing(draw) -> None:
    assert read_json(draw(*ONE, "--guidance", "lamp", "--dry-run", "--json"))["guidance"]["guidance"] == "lamp"
    shown = draw(*ONE, "--guidance", "lamp", "--layers", "0,1", "--num-steps", "7", "--dry-run").out
    assert "lamp, scale 1, layers 0,1, steps 0" in shown
    assert "7 of the sampler" in shown
    assert "7 runs of the denoiser and 1 further prediction of the guidance" in " ".join(shown.split())
    assert "acts in none" not in shown
    assert "probes" not in shown
    assert not Path("runs").exists()


def test_a_guidance_that_acts_in_no_step_is_said(draw) -> None:
    found = read_json(
        draw(*ONE, "--guidance", "lamp", "--guidance-steps", "9", "--num-steps", "7", "--dry-run", "--json")
    )
    assert (found["per_clip"]["further"], found["per_clip"]["passes"], found["forward_passes"]) == (0, 7, 7)
    assert "The guidance acts in none of the 7 steps, so it changes no video." in found["notes"]


def test_an_image_is_the_first_frame(draw) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (sliding.SIDE, sliding.SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("cat.png")
    found = read_json(draw(*ONE, "--model", "imagedrawer", "--image", "cat.png", "--json"))
    (video,) = Path(found["path"], "videos").glob("*.mkv")
    assert np.array_equal(api.read_lossless(video)[0], pixels // 2)
    Path("cat.png").rename("dog.png")
    assert read_json(draw(*ONE, "--model", "imagedrawer", "--image", "dog.png", "--json"))["run"] == found["run"]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--prompt", " "), 2, "prompt is empty"),
        (("--model", "imagedrawer"), 4, "starts from an image, and none was given"),
        (("--image", "wide.png"), 2, "generates from the prompt alone"),
        (("--model", "imagedrawer", "--image", "wide.png"), 2, "The image is 80x40 pixels, and model 'imagedrawer'"),
        (("--model", "imagedrawer", "--image", "nothing.png"), 4, "does not exist"),
        (("--guidance", "lamp", "--layers", "9"), 2, "There is no layer 9"),
        (("--guidance", "lamp", "--scale", "inf"), 2, "not a valid float"),
        (("--guidance", "lamp", "--set", "guidance.scale=nan"), 2, "guidance.scale"),
        (("--guidance", "lump"), 2, "Did you mean 'lamp'"),
        (("--scale", "2"), 2, "guidance.scale is set, and no guidance is used"),
        (("--cfg", "-1"), 2, "no strength of guidance"),
        (("--guidance", "lamp", "--layers", "auto"), 2, "--from runs/RUN"),
        (("--prompt", "broken"), 1, "cannot be drawn"),
    ],
)
def test_bad_input_is_one_error_that_says_what_to_type(draw, flags, code, said) -> None:
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save("wide.png")
    ended = draw(*ONE, *flags)
    assert ended.code == code
    assert said in f"{ended.out} {ended.err}"
    assert "Traceback" not in ended.err


def test_ctrl_c_while_generating_leaves_no_half_file(draw) -> None:
    Path("p.txt").write_text("a\nstop\n", encoding="utf-8")
    ended = draw(*DRAW, "--data", "prompts:p.txt")
    assert ended.code == 130
    assert "1 of 2 clips are finished and kept" in ended.err
    whole = {path.name for path in Path("runs").rglob("prompt-*")}
    assert whole == {"prompt-0000.arrow", "prompt-0000.mkv"}
    assert not [path for path in Path("runs").rglob("*") if ".tmp" in path.name]


def test_ctrl_c_while_the_mp4_is_written_leaves_none(draw, monkeypatch) -> None:
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("vcorr.data.video.browser_videos.encode", interrupt)
    assert draw(*ONE).code == 130
    (kept,) = Path("runs").rglob("prompt-*.mkv")
    assert sorted(path.name for path in kept.parent.iterdir()) == [kept.name]
