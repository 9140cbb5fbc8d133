"""A run behind a URL on a real Ray cluster whose nodes do not see the folder of the run. Needs `vcorr[ray]`.

It is no part of the ordinary tests: a cluster takes memory and time. Run it by `make ray`.
"""

from __future__ import annotations

from dataclasses import replace

from support import mortal
from support.heard import shards_of

from vcorr.runner.coordinator import execute
from vcorr.runner.executors.remote import Package
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.remote.addresses import folder_of
from vcorr.store.rundir import TABLES


def test_nodes_that_share_no_disk_leave_in_the_store_what_one_process_would(
    plugins, bucket, machine, tmp_path, monkeypatch
) -> None:
    from ray.cluster_utils import Cluster

    registry = plugins(mortal)
    spec = {"model": "mortal", "probe": "qk", "steps": "0", "options": {"data": {"clips": 8}}}
    alone = execute(make_plan(RunSpec(**spec), registry), tmp_path / "alone")
    pack = Package.of

    def pack_for_others(plan, run, **options):
        # the nodes of this cluster are on one machine: a folder that is nowhere stands for a disk that is not shared
        return replace(pack(plan, run, **options), folder=f"/nowhere/{run.run_id}")

    monkeypatch.setattr(Package, "of", pack_for_others)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        options = {**spec["options"], "executor": {"address": cluster.address}}
        plan = make_plan(RunSpec(**{**spec, "executor": "ray", "options": options}), registry)
        shared = execute(plan, folder_of(bucket.url))
    finally:
        cluster.shutdown()
    assert (shared.status, shared.failed) == ("complete", ())
    found = {name.partition("/")[2]: content for name, content in bucket.list().items()}
    tables = {name: content for name, content in found.items() if name.partition("/")[0] in TABLES}
    assert tables == shards_of(alone.run)
