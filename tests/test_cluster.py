"""Stages on a Dask cluster: a real scheduler and workers on loopback, some of which are killed in the middle or differ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.linear_model import LogisticRegression

from alneval.resplit import Loop, resplit_aucs
from alnlib.cohorts.folder import read_cohort
from alnlib.errors import InputError
from alnlib.paths import repository_root
from alnlib.pipeline.cluster import how_other
from alnlib.radiomics.extract import extract_cohort, settings_for
from alnlib.tasks import CLUSTER, ordered, unordered
from alnlib.training.oof import networks, out_of_fold_logits
from alnsim import SimulationSpec, simulate_cohort
from tests.test_training import SPEC, stripes
from tests.toy import TOY_CELLS, TOY_STAGES, kinds, run_toys, without_kernels, write_toy_notebook

CODE = Path(__file__).parents[1]
DASK = Path(sys.executable).with_name("dask")
WITHIN_S = 60


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder, self.workers = folder / "scheduler.json", folder, []
        self.scheduler = self._started("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")
        self.address = _awaited(self._said, "the scheduler")

    def start_worker(self, packages: Path | None = None, nanny: bool = False) -> None:
        """packages: a folder whose packages it sees first; nanny: as `dask worker` does it by itself."""
        options = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--local-directory", str(self.folder))
        options += ("--nanny" if nanny else "--no-nanny",)
        self.workers.append(self._started("worker", *options, packages=packages))
        log = self.folder / f"worker-{len(self.workers)}.log"
        _awaited(lambda: "Registered to" in log.read_text(encoding="utf-8"), "a worker")

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _started(self, kind: str, *options: str, packages: Path | None = None) -> subprocess.Popen:
        path = [str(folder) for folder in (packages, CODE) if folder]
        log = self.folder / (f"worker-{len(self.workers) + 1}.log" if kind == "worker" else "scheduler.log")
        command = [str(DASK), kind, "--scheduler-file", str(self.file), *options]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        with open(log, "w", encoding="utf-8") as stream:
            return subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=stream, stderr=subprocess.STDOUT, text=True
            )

    def _said(self) -> str | None:
        text = self.file.read_text(encoding="utf-8") if self.file.is_file() else ""
        return next((part.strip(' "') for part in text.split('"') if part.startswith("tcp://")), None)


def _awaited(ready: Callable[[], object], what: str) -> object:
    deadline = time.monotonic() + WITHIN_S
    while not (said := ready()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return said


@pytest.fixture
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()


def made_by_stages(run: str) -> dict[str, bytes]:
    folder = repository_root() / "results" / run
    return {name: (folder / name).read_bytes() for stage in TOY_STAGES for name in stage.makes}


def waiting_once(repository: Path) -> Path:
    """The second stage, the first time, says which process it is and waits to be killed."""
    marker = repository / "started"
    wait = f"import os, time\nfrom pathlib import Path\nmarker = Path({str(marker)!r})\nfirst = not marker.exists()"
    wait += "\nif first:\n    marker.write_text(str(os.getpid()))\n    time.sleep(600)"
    write_toy_notebook(repository, "02_second", [*TOY_CELLS["02_second"][:2], wait, TOY_CELLS["02_second"][2]])
    return marker


def test_three_workers_make_what_this_machine_makes_and_one_may_die_in_the_middle(toy_repository, cluster):
    assert run_toys(run="here").good
    marker = waiting_once(toy_repository)
    for _ in range(3):
        cluster.start_worker()
    killed = []

    def kill() -> None:
        process = psutil.Process(int(_awaited(lambda: marker.exists() and marker.read_text(), "the second stage")))
        ancestors = {parent.pid for parent in process.parents()}
        (worker,) = [worker for worker in cluster.workers if worker.pid in ancestors]
        worker.send_signal(signal.SIGKILL)
        killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    runner = run_toys(run="there", cluster=cluster.address)
    killer.join()
    assert kinds(runner) == ["done", "done", "done"] and killed
    _awaited(lambda: not alive(killed[0]), "the end of its kernel")
    assert made_by_stages("there") == made_by_stages("here")
    assert not (repository_root() / "results" / "there" / ".cluster").exists()


def heavy_loops(folder: Path) -> dict[str, object]:
    """What each kind of loop that a stage has makes: cohort, radiomics, repeats, fits. Nothing is found in a memory."""
    patients = {"n_primary": 24, "n_external": 0, "n_mri": 4, "n_mammography": 0, "n_neoadjuvant": 0, "n_ct": 0}
    spec = SimulationSpec(
        **patients, n_ct_nodes=0, n_video_primary=2, n_video_external=0, image_rows=96, image_columns=96
    )
    cohort = read_cohort(simulate_cohort(spec, folder, seed=3, n_jobs=2, truth_patients=1_000))
    rows = cohort.images.query("modality == 'MRI' and sequence_or_view == 'DCE_early'")
    settings = {"MRI": settings_for("MRI")}
    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(60, 5)), index=[f"p{i}" for i in range(60)]).rename(columns=str)
    resplit = resplit_aucs(LogisticRegression(), table, np.arange(60) % 2, rng, n_resplits=6, loop=Loop(n_jobs=2))
    known, ids = stripes(24, seed=5), np.array([f"p{i}" for i in range(24)])
    recipe = networks(replace(SPEC, epochs=1), 1, known)
    return {
        "cohort": {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()},
        "radiomics": extract_cohort(rows, folder, settings, n_jobs=2).features.to_csv(),
        "repeats": resplit.to_csv(),
        "logits": out_of_fold_logits(recipe, known.y, ids, 3, seed=6)[0].tolist(),
    }


def test_every_loop_gives_the_same_on_three_workers_of_which_two_die(cluster, tmp_path, monkeypatch):
    expected = heavy_loops(tmp_path / "here")
    for nanny in (False, False, True):
        cluster.start_worker(nanny=nanny)
    monkeypatch.setenv(CLUSTER, cluster.address)
    left: list[psutil.Process] = []

    def kill() -> None:
        for worker, begun in zip(cluster.workers, (".there.*.part/images/*", "there/truth.json"), strict=False):
            _awaited(lambda begun=begun: next(tmp_path.glob(begun), None), f"the loop that writes {begun}")
            busy = psutil.Process(worker.pid)
            left.extend(_awaited(lambda busy=busy: busy.children(recursive=True), "a process of the worker"))
            worker.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    found = heavy_loops(tmp_path / "there")
    killer.join()
    assert found == expected
    _awaited(lambda: not any(map(alive, left)), "the end of what killed workers had started")


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_worker_that_joined_later_with_another_environment_computes_nothing(cluster, tmp_path, monkeypatch):
    (tmp_path / "requirements.lock").write_text("numpy==0\n")
    monkeypatch.setenv("ALN_ROOT", str(tmp_path))
    monkeypatch.setenv(CLUSTER, cluster.address)
    cluster.start_worker(another_numpy(tmp_path))
    with pytest.raises(InputError, match=r"would give other results \(numpy 0.0.1 for"):
        ordered(abs, [-1, -2])


def test_a_scheduler_lost_in_a_loop_is_said(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv(CLUSTER, cluster.address)
    for _ in range(2):
        cluster.start_worker()
    found = unordered(time.sleep, [0.1, 60])
    assert next(found) == (0, None)
    cluster.scheduler.kill()
    with pytest.raises(InputError, match="scheduler is gone; start it again"):
        next(found)


def another_numpy(folder: Path) -> Path:
    """A folder whose packages a worker sees first."""
    other = folder / "other" / "numpy-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    return other.parent


def test_a_worker_of_another_environment_is_refused(toy_repository, cluster, tmp_path):
    cluster.start_worker()
    cluster.start_worker(another_numpy(tmp_path))
    with pytest.raises(InputError, match=r"1 of 2 workers would give other results .*: numpy 0.0.1 for") as raised:
        run_toys(cluster=cluster.address)
    assert ".venv/bin/dask" in str(raised.value)


def test_a_worker_that_sees_other_folders_is_told():
    own = {"Python": "3.11.7", "numpy": "2"}
    assert how_other((own, "a"), (dict(own), "a")) == ""
    assert how_other((own, "a"), (own, "")) == "does not see the folder of results"
    assert how_other((own, "a"), ({"Python": "3.11.8"}, "a")) == "Python 3.11.8 for 3.11.7, numpy missing for 2"
    assert "No module" in how_other((own, "a"), ModuleNotFoundError("No module named 'alnlib'"))


def test_a_lost_scheduler_ends_the_run_with_a_remedy_and_loses_nothing(toy_repository, cluster, monkeypatch):
    marker = waiting_once(toy_repository)
    cluster.start_worker()

    def kill() -> None:
        _awaited(lambda: marker.exists() and marker.read_text(), "the second stage")
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    runner = run_toys(cluster=cluster.address)
    killer.join()
    told = runner.statuses["02_second"]
    assert not runner.good and told.kind == "failed"
    assert "scheduler is gone" in told.error["message"] and "run again" in told.error["message"]
    without_kernels(monkeypatch)
    assert kinds(run_toys())[:2] == ["fresh", "done"]


def test_a_cluster_that_is_not_there_or_has_no_workers_is_said(toy_repository, cluster, monkeypatch):
    monkeypatch.setattr("alnlib.pipeline.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        run_toys(cluster="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="the scheduler has no workers; start `dask worker"):
        run_toys(cluster=cluster.address)
