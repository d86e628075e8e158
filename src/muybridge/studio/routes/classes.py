"""Routes: classes with their colours and keys; renaming, merging and deleting everywhere at once."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from muybridge.studio.annotation_records import MAX_NAME_CHARACTERS, Name, StudioRecord
from muybridge.studio.classes import MAX_CLASSES, ClassList, ClassUpdate
from muybridge.studio.routes.dependencies import ERRORS, OpenProject

router = APIRouter(tags=["classes"], responses=ERRORS, prefix="/projects/{project}/classes")


class _Rename(StudioRecord):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARACTERS)
    new_name: Name


class _Merge(StudioRecord):
    names: tuple[str, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    into: Name


class _Delete(StudioRecord):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARACTERS)


@router.get("")
def _get_classes(project: OpenProject) -> ClassList:
    """The classes with how much of each is marked."""
    return project.classes.read()


@router.put("")
def _put_classes(project: OpenProject, update: ClassUpdate) -> ClassList:
    """Add classes, set order, colours and keys."""
    return project.classes.update(update)


@router.post("/rename")
def _rename_class(project: OpenProject, rename: _Rename) -> ClassList:
    """Rename a class in all annotations."""
    return project.classes.rename(rename.name, rename.new_name)


@router.post("/merge")
def _merge_classes(project: OpenProject, merge: _Merge) -> ClassList:
    """Turn the annotations of several classes into those of one."""
    return project.classes.merge(merge.names, merge.into)


@router.post("/delete")
def _delete_class(project: OpenProject, delete: _Delete) -> ClassList:
    """Remove a class and all its annotations."""
    return project.classes.delete(delete.name)
