"""Brings TAPNext++ to vcorr as a tracker. Code and weights of TAPNext++ are not part of this package."""
