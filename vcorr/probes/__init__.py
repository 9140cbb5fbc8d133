"""The built-in probes: `config` holds their options and imports no torch; `builtin` matches, `attention` reads rows."""
