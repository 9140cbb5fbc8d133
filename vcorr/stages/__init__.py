"""The stages of a run: plan (what will be done), predict (the only one that needs a model), score (from stored tables)."""
