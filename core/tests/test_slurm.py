"""Job scripts word by word, and the rule by which a stopped job goes back into the queue."""

import shlex
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecore.errors import InputError, RunError
from posecore.slurm import SlurmConfig, render_script, requeue_if_preempted, submit

GOLDEN = """\
#!/bin/bash
#SBATCH --job-name=hand
#SBATCH --output=logs/hand-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=a100:4
#SBATCH --cpus-per-task=8
#SBATCH --mem=200G
#SBATCH --time=1-00:00:00
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --exclude=node[03-04]

set -eo pipefail
trap : TERM USR1
export WANDB_MODE=offline
export NOTE='a b'
module load cuda/12.4
source .venv/bin/activate
srun --kill-on-bad-exit=1 --cpus-per-task=8 handvit train --config stage1.json --set 'note="two words"' --resume auto
"""


def test_the_script_is_this_one():
    slurm = SlurmConfig(
        nodes=2, gpus_per_node=4, gpu_type="a100", time="1-00:00:00", mem="200G", partition="gpu", account="lab",
        environment={"WANDB_MODE": "offline", "NOTE": "a b"}, modules=["cuda/12.4"],
        setup=["source .venv/bin/activate"], extra=["--exclude=node[03-04]"],
    )  # fmt: skip
    command = ["handvit", "train", "--config", "stage1.json", "--set", 'note="two words"', "--resume", "auto"]
    assert render_script(slurm, command, "hand", "logs") == GOLDEN


def test_a_cpu_array_has_one_task_a_node_and_a_log_an_index():
    script = render_script(SlurmConfig(gpus_per_node=0, array="0-7%2", requeue=False), ["echo"], "convert", "logs")
    assert "--gpus-per-node" not in script
    for line in ("--ntasks-per-node=1", "--array=0-7%2", "--no-requeue", "--output=logs/convert-%A_%a.log"):
        assert f"#SBATCH {line}\n" in script


@given(arguments=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
def test_no_argument_can_be_read_as_anything_but_one_word(arguments):
    script = render_script(SlurmConfig(), ["python", *arguments], "job", "logs")
    command = script[script.index("srun ") :]
    assert shlex.split(command)[3:] == ["python", *arguments]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "gpu\n#SBATCH --uid=0"}, "partition: "),
        ({"partition": "a b"}, "partition: "),
        ({"account": "-x"}, "account: "),
        ({"extra": ["--wrap=x; rm -r ."]}, "extra: '--wrap=x; rm -r .' is no sbatch option"),
        ({"extra": ["node07"]}, "is no sbatch option of the form --name"),
        ({"setup": ["true\n#SBATCH --x"]}, "setup: "),
        ({"environment": {"A B": "x"}}, "environment.A B"),
        ({"environment": {"A": "x\ny"}}, "environment: A has a value of several lines"),
        ({"modules": ["cuda; rm x"]}, "modules.0: "),
        ({"time": "soon"}, "time: 'soon' is not [days-]hours:minutes[:seconds]"),
        ({"time": "00:04:00"}, "signal_lead_s 300 is not below time 00:04:00 (240 s)"),
        ({"array": "0-"}, "array: '0-' is no list of indices"),
        ({"gpu_per_node": 2}, "did you mean gpus_per_node?"),
    ],
)
def test_a_value_that_could_be_more_than_a_value_is_refused(settings, message):
    with pytest.raises(InputError) as caught:
        SlurmConfig.from_dict(settings, "job.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(("name", "folder"), [("a b", "logs"), ("interactive", "logs"), ("job", "my logs")])
def test_names_that_break_a_script_or_its_launch_are_refused(name, folder):
    with pytest.raises(InputError):
        render_script(SlurmConfig(), ["true"], name, folder)


def test_bash_takes_the_script_as_valid():
    subprocess.run(["bash", "-n"], input=GOLDEN, text=True, check=True)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program of that name on the PATH that notes how it was called."""

    def _program(name: str, body: str) -> Path:
        calls = tmp_path / f"{name}.calls"
        file = tmp_path / name
        file.write_text(f'#!/bin/bash\necho "$@" >> {calls}\n{body}\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return calls

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return _program


def test_submitting_sends_the_script_unchanged_makes_the_log_folder_and_gives_the_job_id(
    program, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    calls = program("sbatch", f"cat > {tmp_path}/sent; echo '4711;cluster'")
    assert submit(GOLDEN) == "4711"
    assert calls.read_text() == "--parsable\n"
    assert (tmp_path / "logs").is_dir()
    assert (tmp_path / "sent").read_text() == submit(GOLDEN, dry_run=True) == GOLDEN


def test_what_sbatch_says_is_passed_on(program):
    program("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    with pytest.raises(RunError, match="invalid partition"):
        submit(GOLDEN)


def test_without_slurm_the_message_says_where_to_go(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="login node"):
        submit(GOLDEN)


RUNNING = "JobId=7 JobName=x JobState=RUNNING Requeue=1 PreemptTime="
CANCELLED = "JobId=7 JobName=x JobState=COMPLETING Requeue=1 PreemptTime=None"


@pytest.mark.parametrize(
    ("number", "job", "goes_back"),
    [
        (signal.SIGUSR1, RUNNING + "None", True),
        (signal.SIGTERM, RUNNING + "2026-11-20T10:00:00", True),
        (signal.SIGTERM, RUNNING + "None", False),
        (signal.SIGTERM, CANCELLED, False),
        (signal.SIGUSR1, RUNNING.replace("Requeue=1", "Requeue=0") + "None", False),
    ],
)
def test_only_a_preempted_or_timed_out_job_goes_back_never_a_cancelled_one(
    program, monkeypatch, number, job, goes_back
):
    calls = program("scontrol", f'[ "$1" = requeue ] || echo "{job}"')
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert requeue_if_preempted(number) == goes_back
    assert ("requeue 7" in calls.read_text().splitlines()) == goes_back


def test_nothing_is_asked_of_slurm_outside_of_it_or_without_a_signal(program, monkeypatch):
    calls = program("scontrol", "true")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not requeue_if_preempted(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not requeue_if_preempted()
    assert not calls.exists()


def test_a_requeue_that_fails_is_told(program, monkeypatch):
    program("scontrol", "echo 'slurm_requeue error: Job is held' >&2; exit 1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(RunError, match=r"the run was saved, but `scontrol show job 7` failed: .*Job is held"):
        requeue_if_preempted(signal.SIGUSR1)
