"""Brings CogVideoX to vcorr."""
