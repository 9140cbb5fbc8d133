"""`vcorr plugin new`: distributions written from the templates beside this module, one folder a kind."""
