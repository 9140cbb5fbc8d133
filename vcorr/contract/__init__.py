"""What plugins and the core agree on: hooks, entries, protocols, records, geometry, errors. Imports no torch."""
