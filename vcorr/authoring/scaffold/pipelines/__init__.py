"""`vcorr plugin new --from-pipeline CLASS`: an adapter written from what a pipeline class of diffusers shows.

`find` resolves the class and refuses what makes no video from text. `sizes` makes small configurations of its
components, and `measure` runs it with random weights. `learn` puts together what `ratio_facts`, `site_facts`,
`branch_facts` and `prompt_facts` see. `facts` holds what was seen and what was guessed. `adapter_source` writes it.
"""
