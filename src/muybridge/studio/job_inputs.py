"""What a job may read and write when it is run again: checked as the request that starts one is.

Its job.json may be somebody else's, or of the folder in which the project was before. Input: the folder of a job. Output:
job.json anew, with its network where that is now.
"""

from __future__ import annotations

from pathlib import Path

from muybridge.files.atomic import write_json
from muybridge.parsing import read_json_object
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.job_runner import JOB_FILE, JobDescription, find_project_folder, read_job
from muybridge.studio.model_address import RUNS_FOLDER, resolve_model
from muybridge.studio.train_command import INIT, build_train_arguments, has_checkpoint


def settle_job_inputs(folder: Path, folders: AllowedFolders) -> None:
    """Check the network, the videos and the run of a job, and name the network in job.json where it is now.

    Raises StudioError for what the form would refuse, ValueError for a job.json that is damaged.
    """
    description, values = read_job(folder), read_json_object(folder / JOB_FILE)
    project_folder = find_project_folder(folder)
    for path in description.paths:
        folders.resolve_below(project_folder, path)
    if "files" in values:
        raise StudioError(409, "a batch is not resumed; send its files again")
    former = _find_former_project(description)
    if description.run is not None:
        run_folder = project_folder / RUNS_FOLDER / description.run
        _check_run_folder(run_folder, folders)
        options = description.options
        if INIT in options and not has_checkpoint(run_folder):
            options[INIT] = _settle_model(options[INIT], former, project_folder, folders)
        arguments = build_train_arguments(project_folder, description.run, options)
    else:
        arguments = description.build_command(folder)
    if "model" in values:
        values["model"] = _settle_model(str(values["model"]), former, project_folder, folders)
    write_json(folder / JOB_FILE, {**values, "command": [*description.command[:2], *arguments]})


def _find_former_project(description: JobDescription) -> Path:
    """The project that the job was started in."""
    if description.run is not None:
        return Path(description.options.get("--data", "")).parent
    parents = Path(description.command[3]).parents
    return parents[2] if len(parents) > 2 else Path()


def _settle_model(address: str, former: Path, project_folder: Path, folders: AllowedFolders) -> str:
    """The address of a network as it is now: what was below the former project is below this one."""
    if former.is_absolute() and Path(address).is_relative_to(former):
        address = str(project_folder / Path(address).relative_to(former))
    return resolve_model(address, folders, project_folder).address


def _check_run_folder(run_folder: Path, folders: AllowedFolders) -> None:
    """Raise StudioError(403) where writing the run would follow a link out of the allowed folders."""
    links = [path for path in (run_folder, *run_folder.rglob("*")) if not folders.contains(path)]
    if links:
        raise StudioError(403, f"{links[0]} is a link out of the folders of this studio; remove it, or train anew")
