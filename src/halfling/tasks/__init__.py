"""Tasks: what is asked of labelled data, where they lie, how they are read, encoded and scored."""

from halfling.tasks.task import Task, read_task

__all__ = ["Task", "read_task"]
