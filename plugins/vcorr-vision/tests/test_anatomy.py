"""Tests what a pass tells about networks that no family of transformers has."""

import torch
from vcorr_vision import anatomy
from vcorr_vision.inputs import Shape


class Grows(torch.nn.Module):
    """Takes patches of 8x8 pixels through three layers, and adds two tokens in front of the last two."""

    main_input_name = "pixel_values"

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, 8, 8)
        self.layers = torch.nn.ModuleList(torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True) for _ in range(3))

    def forward(self, pixel_values):
        tokens = self.patches(pixel_values).flatten(2).transpose(1, 2)
        for index, layer in enumerate(self.layers):
            more = tokens.new_zeros(len(tokens), 2, 8)
            tokens = layer(torch.cat([more, tokens], dim=1) if index == 1 else tokens)
        return tokens


def test_a_layer_with_another_number_of_special_tokens_shows_its_features(monkeypatch):
    monkeypatch.setattr(anatomy, "build_whole", lambda *_: Grows().to("meta"))
    found = anatomy.examine(None, Shape(2, 16, 24, (8, 8), 1, video=False), "grows")
    assert (found.special, [layer.attention for layer in found.layers]) == (
        2,
        ["", "layers.1.self_attn", "layers.2.self_attn"],
    )
    assert found.layers[0].unread == "its sequence holds 0 tokens that belong to no place, and the network's 2"


class Twice(Grows):
    """Its second layer runs twice in a pass, so that a call does not say which of both it is."""

    def forward(self, pixel_values):
        tokens = super().forward(pixel_values)
        return self.layers[1](tokens)


def test_attention_that_is_computed_twice_in_a_pass_is_not_read(monkeypatch):
    monkeypatch.setattr(anatomy, "build_whole", lambda *_: Twice().to("meta"))
    found = anatomy.examine(None, Shape(2, 16, 24, (8, 8), 1, video=False), "twice")
    assert [layer.attention for layer in found.layers] == ["", "", "layers.2.self_attn"]
    assert "computes attention 2 times in a pass" in found.layers[1].unread
