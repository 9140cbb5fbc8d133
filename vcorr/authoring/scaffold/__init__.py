"""Writes new distributions for `vcorr plugin new`, from the folder `templates`: one subfolder per kind of plugin."""
