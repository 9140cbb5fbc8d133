"""Holds the built-in probes.

`probe_options` and `heads` hold their options and import no torch. `matching_probes` holds the probes that match
tokens, `attention_probe` the probe that summarises attention.
"""
