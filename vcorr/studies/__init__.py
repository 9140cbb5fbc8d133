"""Studies: many runs of one model that differ in one thing, each compared with its control on the same clips."""
