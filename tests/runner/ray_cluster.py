"""A run on a real Ray cluster of two nodes, one of which is lost on the way. Needs `pip install 'vcorr[ray]'`.

It is no part of the ordinary tests: a cluster takes memory and time. Run it by `make ray`.
"""

from __future__ import annotations

import pytest
from support import mortal
from support.heard import Listening, shards_of

from vcorr.contract.errors import UsageError
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec


class Losing(Listening):
    """Removes a node of the cluster when the first clip is done."""

    def __init__(self, cluster, node) -> None:
        super().__init__()
        self._cluster, self._node = cluster, node

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        super().clip_done(clip_id, reused=reused)
        if self._node is not None:
            self._cluster.remove_node(self._node)
            self._node = None


def test_a_lost_node_costs_no_clip_and_the_bytes_are_those_of_one_process(plugins, tmp_path) -> None:
    from ray.cluster_utils import Cluster

    registry = plugins(mortal)
    spec = {"model": "mortal", "probe": "qk", "steps": "0", "options": {"data": {"clips": 8}}}
    alone = execute(make_plan(RunSpec(**spec), registry), tmp_path / "alone")
    nowhere = {**spec["options"], "executor": {"address": "auto"}}
    with pytest.raises(UsageError, match="No Ray cluster can be reached"):
        execute(make_plan(RunSpec(**{**spec, "executor": "ray", "options": nowhere}), registry), tmp_path / "nowhere")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        heard = Losing(cluster, cluster.add_node(num_cpus=1))
        options = {**spec["options"], "executor": {"address": cluster.address}}
        plan = make_plan(RunSpec(**{**spec, "executor": "ray", "options": options}), registry)
        shared = execute(plan, tmp_path / "shared", events=heard)
    finally:
        cluster.shutdown()
    assert (shared.status, shared.failed) == ("complete", ())
    assert shards_of(shared.run) == shards_of(alone.run)
    assert any("was lost. The clip is tried again." in note for note in heard.notes)
