"""A server that runs vcorr commands in processes that fail: killed at a write, or with an error of the disk.

It imports everything once and forks for each command, so that hundreds of faults are cheap. Start it by
`python -m support.faulty`; it reads one request per line, as JSON, and answers with one line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

WRITES = ("fsync", "replace", "rename", "mkdir")


class Writes:
    """Counts what writes to the disk, and fails at one of them."""

    def __init__(self, at: int, number: int) -> None:
        self.count, self.at, self.number = 0, at, number

    def step(self, half=None) -> None:
        """Counts a write. At the chosen one, writes half of it and fails. half: writes half."""
        self.count += 1
        if self.count != self.at:
            return
        if half is not None:
            half()
        if self.number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.number, os.strerror(self.number))

    def watch(self) -> None:
        """Puts the counter in front of every call that changes the disk."""
        for name in WRITES:
            setattr(os, name, self._counted(getattr(os, name)))
        Path.write_bytes = self._halved(Path.write_bytes)  # type: ignore[method-assign]
        Path.write_text = self._halved(Path.write_text)  # type: ignore[method-assign]

    def _counted(self, call):
        def count(*arguments, **options):
            self.step()
            return call(*arguments, **options)

        return count

    def _halved(self, call):
        def count(path, content, *arguments, **options):
            self.step(lambda: call(path, content[: len(content) // 2], *arguments, **options))
            return call(path, content, *arguments, **options)

        return count


def run_child(request: dict[str, Any], output: Path) -> None:
    """Runs a command line in this process and ends it."""
    os.chdir(request["folder"])
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(output.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    writes = Writes(request.get("at", 0), request.get("number", 0))
    writes.watch()
    from vcorr.cli.main import main

    code = 1
    try:
        main(request["command"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    output.with_suffix(".count").open("w").write(str(writes.count))
    os._exit(code)


def start(request: dict[str, Any], output: Path) -> int:
    """Starts a command in a process of its own; returns the number of the process."""
    for name in ("out", "err", "count"):
        output.with_suffix(f".{name}").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        run_child(request, output)
    return child


def finish(child: int, output: Path) -> dict[str, Any]:
    """Waits for a command; returns its exit code (-9 if it was killed), what it printed, and how much it wrote."""
    _, status = os.waitpid(child, 0)
    count = output.with_suffix(".count")
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": output.with_suffix(".out").read_text(),
        "err": output.with_suffix(".err").read_text(),
        "count": int(count.read_text()) if count.exists() else 0,
    }


def serve(home: Path) -> None:
    """Answers requests until the input ends. A request with several commands runs them at the same time."""
    import torch

    import vcorr.board.site.site_build
    import vcorr.capture.recorder
    import vcorr.cli.views.render
    import vcorr.cli.views.run_view
    import vcorr.data.video.lossless
    import vcorr.runner.coordinator
    import vcorr.runner.rescore  # noqa: F401  # imported before the forks
    from support import knowing, sliding
    from vcorr.plugins import builtin, registry

    torch.set_num_threads(1)
    sources = [registry.PluginSource(registry.BUILTIN, "vcorr", "0", lambda: builtin)]
    sources += [registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m) for m in (sliding, knowing)]
    made = registry.Registry(sources)
    registry.installed = lambda: made  # type: ignore[assignment]
    for line in sys.stdin:
        requests = json.loads(line)
        outputs = [home / f"process-{number}" for number in range(len(requests))]
        children = [start(request, output) for request, output in zip(requests, outputs, strict=True)]
        ended = [finish(child, output) for child, output in zip(children, outputs, strict=True)]
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
