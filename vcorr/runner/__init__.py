"""The stages of a run: plan (what will be done), predict (all that needs a model), score (from stored tables)."""
