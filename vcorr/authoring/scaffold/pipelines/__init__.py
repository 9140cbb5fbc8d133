"""Writes an adapter from a pipeline class of diffusers, for `vcorr plugin new --from-pipeline CLASS`.

`find` resolves the class and refuses classes that make no video from text. `sizes` makes small configurations of its
components, and `measure` runs it with random weights. `learn` collects what `ratio_facts`, `site_facts`,
`branch_facts` and `prompt_facts` find. `facts` holds what was seen and what was guessed. `adapter_source` writes it.
"""
