"""What plugins and the core agree on: hooks, entries, protocols, records, geometry and errors. Imports no torch.

Where to begin: `hookspecs` shows what a plugin returns, with an example of each kind. `entries` are the records in
which it describes a part. `protocols` are the members that the part must have, `bases` the optional ones. `records` are
the data that pass between the parts.
"""
