"""The built-in probes: `config` holds their options and imports no torch, `builtin` the probes themselves."""
