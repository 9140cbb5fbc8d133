"""Fused kernels in Triton for the functions that match tokens (docs/performance.md).

They compute what `vcorr.functional` computes in plain torch, which is the reference. No correlation of all tokens with
all tokens is written to memory. `kernel_choice` says whether they run. Modules named `device_...` hold programs of the
GPU, and import Triton; all others import it only when a kernel starts.

Axes: A heads that take part, F frames, P tokens of a frame, d width of a head, U distinct query tokens. J = F - 1 are
the frames other than the frame of the query tokens, in order of time. Exponentials and logarithms have base 2.
"""
