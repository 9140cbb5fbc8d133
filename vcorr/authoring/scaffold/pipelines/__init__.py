"""`vcorr plugin new --from-pipeline CLASS`: an adapter written from what a pipeline class of diffusers shows.

`find` resolves the class and refuses what makes no video from text. `sizes` makes small configurations of its
components, `measure` runs it with random weights, `learn` looks at what it does. `facts` holds what was seen and what
was guessed, and `source` writes it down.
"""
