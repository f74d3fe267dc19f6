"""Who may change the definition of a Dataset that is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluidpy.errors import ValidationError

if TYPE_CHECKING:
    from fluidpy.worker.attached_dataset import AttachedDataset


def refuse_change(dataset: AttachedDataset, user: object) -> None:
    """Raises ValidationError while the control plane says what the Dataset is, or it is mounted.

    Else the files of a mount (its listener tells it), and of the jobs reading it, would become
    others under their hands.
    """
    if dataset.managers:
        raise ValidationError(
            f"the Dataset {dataset.definition.key} is the control plane's, with another definition",
            cure="Apply the change (fluidpy apply), or give this one another name.",
        )
    if any(listener is not user for listener in dataset.listeners):
        raise ValidationError(
            f"the Dataset {dataset.definition.key} is mounted with another definition",
            cure="Unmount it first (fluidpy status shows where), or give this one another name.",
        )
