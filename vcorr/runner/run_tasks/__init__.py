"""The tasks of runs. Code that depends on the task of a run asks its object, which `find_task` finds."""
