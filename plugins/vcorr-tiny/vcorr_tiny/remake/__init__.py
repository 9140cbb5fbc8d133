"""Makes the networks of the embedded model again: trains them, chooses one, measures everything, adopts the result."""
