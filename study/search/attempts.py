"""Processes that died: how often a trial is tried again, and which devices are left out.

One broken GPU fails at once, is free first, and gets the next trial. So deaths are counted by device as well as by
trial. Trials that share a GPU can also die together: under MPS an error of one ends all of them, and nothing says
whose it was. Such deaths count once, for the trial whose death is reported first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_ATTEMPTS = 3
"""Processes that may die in the same epoch of a trial."""

DEATHS_OF_A_DEVICE = 2
"""Trials that may die in their first step on a device, without another one's success there in between."""


@dataclass(frozen=True)
class Death:
    """Death of a process.

    Args:
        trial: Number of the trial.
        epoch: The last epoch on record.
        device: Where it ran; empty if it died before it had got a device.
        error: Its error, empty if it left none.
        first_step: Whether the process had not finished an epoch.
    """

    trial: int
    epoch: int
    device: str
    error: str
    first_step: bool

    @property
    def text(self) -> str:
        """Return what happened, for people."""
        return self.error or "its process died without an error, perhaps out of memory"


@dataclass
class Attempts:
    """Account of a search's attempts.

    Attributes:
        left_out: Devices on which no trial is trained any more.
        sharing: Whether trials share GPUs, so that an error of one may end others.
    """

    left_out: set[str] = field(default_factory=set)
    sharing: bool = False
    _devices: set[str] = field(default_factory=set)
    _deaths: list[Death] = field(default_factory=list)
    _suspects: dict[str, set[int]] = field(default_factory=dict)  # device → trials that died there in their first step
    _there: dict[str, set[int]] = field(default_factory=dict)  # device → trials that it got last
    _shaken: dict[str, set[int]] = field(default_factory=dict)  # device → trials there, without an epoch since a death

    def placed(self, device: str, trial: int) -> None:
        """Take note of a device that a trial has got."""
        self._devices.add(device)
        if not self.sharing:
            return
        for trials in (*self._there.values(), *self._shaken.values()):
            trials.discard(trial)
        self._there.setdefault(device, set()).add(trial)

    def succeeded(self, device: str, trial: int) -> None:
        """Take note of an epoch: the device works, so what died in its first step there was not the device's fault."""
        self._suspects.pop(device, None)
        self._shaken.get(device, set()).discard(trial)

    def died(self, death: Death) -> str | None:
        """Take note of a death.

        Args:
            death: What happened.

        Returns:
            Why the trial is not tried again; None if it is.
        """
        there = self._there.get(death.device, set())
        there.discard(death.trial)
        shaken = self._shaken.setdefault(death.device, set())
        if death.trial in shaken:
            shaken.discard(death.trial)
            return None
        shaken |= there
        self._deaths.append(death)
        if death.first_step and death.device:
            suspects = self._suspects.setdefault(death.device, set())
            suspects.add(death.trial)
            if len(suspects) >= DEATHS_OF_A_DEVICE and self._devices - self.left_out - {death.device}:
                self.left_out.add(death.device)
                self._deaths = [one for one in self._deaths if one.device != death.device]
                return None
        same = [one for one in self._deaths if (one.trial, one.epoch) == (death.trial, death.epoch)]
        if len(same) < MAX_ATTEMPTS:
            return None
        where = ", ".join(dict.fromkeys(one.device for one in same if one.device)) or "none of them got a device"
        return f"{len(same)} processes died in epoch {death.epoch + 1} ({where}): {death.text}"
