"""Compiles the fused kernels for NVIDIA GPUs on a machine without one, and prints one line of JSON per program.

python tests/support/compiled_kernels.py [--all]        with --all: more widths, dtypes and generations

Triton's interpreter runs kernels that the compiler refuses, so the tests compile them too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vcorr.kernels.device_costs import cost_kernel
from vcorr.kernels.device_peaks import peak_kernel
from vcorr.kernels.device_results import place_kernel, share_kernel, take_kernel
from vcorr.kernels.device_rows import row_kernel
from vcorr.kernels.device_sums import sum_kernel
from vcorr.kernels.device_window import window_kernel
from vcorr.kernels.tilings import DESCRIBED_SUMS, SUMS, choose_tilings, cost_tilings

POINTERS = {
    **dict.fromkeys(("left", "right", "q", "k", "q_rows", "k_rows"), ""),
    **dict.fromkeys(("out", "forward", "reverse", "whole_sums", "shares", "table", "xy"), "*fp32"),
    **dict.fromkeys(("text", "mine", "others"), "*fp32"),
    **dict.fromkeys(("tokens", "best", "keys", "index"), "*i64"),
    "hidden": "*u8",
    "peaks": "*i32",
}

DESCRIBED = {"right": "block_columns", "q": "block_columns", "k": "block_columns"}
"""The sides that a kernel reads through descriptors, and what says how many tokens a tile of them has."""
DESCRIBED |= dict.fromkeys(("q_rows", "k_rows"), "block_rows")


@dataclass(frozen=True)
class Program:
    """One kernel with its constants. dtype: of the tokens, bf16 or fp32. arch: 80 for Ampere, 90 for Hopper."""

    kernel: Any
    constants: dict[str, Any]
    dtype: str
    width: int
    arch: int
    warps: int
    stages: int

    def compile(self) -> dict[str, Any]:
        """Returns what the compiler made: bytes of shared memory, and the number of products of whole tiles."""
        signature, attributes = {}, {}
        for index, name in enumerate(self.kernel.arg_names):
            if name in self.constants:
                signature[name] = "constexpr"
                continue
            if self._is_described(name):
                tokens, step = self.constants[DESCRIBED[name]], self.constants["step"]
                signature[name] = f"tensordesc<{self.dtype}[1, 1, {tokens}, {step}]>"
                continue
            number = "fp32" if name in ("scale", "share") else "i32"
            signature[name] = (POINTERS[name] or f"*{self.dtype}") if name in POINTERS else number
            if name in POINTERS or name.endswith(("_head", "_frame", "_token", "width")):
                attributes[(index,)] = [["tt.divisibility", 16]]
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=self.constants, attrs=attributes)
        options = {"num_warps": self.warps, "num_stages": self.stages}
        built = triton.compile(source, target=GPUTarget("cuda", self.arch, 32), options=options)
        tiles = built.asm["ptx"].count("wgmma.mma_async") + built.asm["ptx"].count("mma.sync")
        facts = {
            "described": bool(self.constants.get("described")),
            "kernel": self.kernel.__name__,
            "dtype": self.dtype,
            "width": self.width,
            "arch": self.arch,
        }
        return {**facts, "shared": built.metadata.shared, "tile_products": tiles}

    def _is_described(self, name: str) -> bool:
        return bool(self.constants.get("described")) and name in DESCRIBED


def list_programs(dtype: str, width: int, arch: int, every: bool) -> Iterator[Program]:
    """Yields the programs that matching and attention start for one dtype and width."""
    widen = dtype == "fp32"
    ways = [True, False] if arch >= 90 and not widen else [False]
    for kernel, chosen in _list_constants(every):
        for described in [False] if kernel is row_kernel else ways if every else ways[:1]:
            tilings = DESCRIBED_SUMS if described else SUMS
            if kernel is not sum_kernel:
                tilings = cost_tilings(width, described=described, products=2 - chosen.get("same", True))
            arguments = choose_tilings(tilings, widen)[0].arguments(width, widen)
            warps, stages = arguments.pop("num_warps"), arguments.pop("num_stages")
            constants = {**arguments, **chosen}
            if kernel is not row_kernel:  # it takes pointers alone
                constants["described"] = described and not chosen.get("each", False)
            yield Program(kernel, constants, dtype, width, arch, warps, stages)
    block = 1 << (width - 1).bit_length()
    window = {"symmetric": True, "each": True, "near": 32, "block": block, "even": width == block}
    yield Program(window_kernel, window, dtype, width, arch, 4, 3)
    if dtype == "bf16" and width == 64:  # they read few tokens, or none
        yield Program(place_kernel, {"moving": True, "block": 256}, dtype, width, arch, 4, 3)
        yield Program(take_kernel, {"block_rows": 16, "step": 64}, dtype, width, arch, 4, 3)
        yield Program(
            share_kernel, {"with_text": True, "padded": 16, "together": 8, "block_rows": 8}, dtype, width, arch, 4, 3
        )


def _list_constants(every: bool) -> Iterator[tuple[Any, dict[str, bool]]]:
    yield sum_kernel, {"moving_left": False, "skip": True, "gather": True, "masked": False}
    yield cost_kernel, {"softmax": True, "symmetric": True, "same": False, "each": True, "with_mean": True}
    yield peak_kernel, {"masked": True}
    yield row_kernel, {"back": True, "symmetric": True, "same": False, "by_token": True}
    if every:
        yield row_kernel, {"back": False, "symmetric": True, "same": True, "by_token": False}
        yield row_kernel, {"back": True, "symmetric": False, "same": False, "by_token": True}
        yield sum_kernel, {"moving_left": True, "skip": False, "gather": False, "masked": True}
        yield cost_kernel, {"softmax": True, "symmetric": True, "same": True, "each": False, "with_mean": True}
        yield cost_kernel, {"softmax": False, "symmetric": False, "same": True, "each": False, "with_mean": True}
    yield cost_kernel, {"softmax": True, "symmetric": True, "same": False, "each": False, "with_mean": True}


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    every = parser.parse_args().all
    cases = [("bf16", 64, 90)]
    if every:
        cases = [
            (dtype, width, arch) for dtype in ("bf16", "fp32") for width in (64, 72, 128, 256) for arch in (80, 90)
        ]
    for case in cases:
        for program in list_programs(*case, every):
            sys.stdout.write(json.dumps(program.compile()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
