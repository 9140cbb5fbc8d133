"""An interceptor that shares the recorder's watch knows the steps that the loop names."""

import numpy as np

from vcorr.capture import Recorder, intercept


class Look:
    needs = frozenset({"q"})

    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def test_steps_are_those_of_the_loop_and_not_counted(cog):
    where = []

    def note(call, compute):
        where.append((call.site.name, call.step, call.branch))
        return compute(call)

    recorder = Recorder({"look": Look()}, np.array([[4, 4]], dtype=np.float32))
    with (
        recorder.attach(cog.module, cog.sites, cog.layout, cog.grid),
        intercept(cog.module, cog.sites, note, watch=recorder.watch),
    ):
        for step in (7, 3):
            with recorder.step(step, noise=0.5):
                cog()
    assert where == [(name, step, "uncond+cond") for step in (7, 3) for name in cog.names]
    assert sorted({p.step for p in recorder.predictions}) == [3, 7]
