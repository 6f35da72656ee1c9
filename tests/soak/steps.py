# SPDX-License-Identifier: GPL-2.0-or-later
"""What a step is, and the choice of the next one.

A step draws its arguments from the seed's numbers before it acts, so that the
same seed gives the same steps with the same arguments.

A seed begins with one step of each kind, in an order of its own; a kind that is
not possible yet has its turn as soon as it is.  Then chance chooses by weight.
"""

from random import Random


class Step:
    """One thing that an administrator does to a guest."""

    weight = 10
    ends_process = False    # another process has the guest afterwards

    def possible(self, rig):
        """May it be chosen now?"""
        return True

    def plan(self, random, rig):
        """The arguments of act()."""
        return {}

    def act(self, rig, **arguments):
        """Do it; RunError if something is not as it must be.

        The data are compared afterwards, whatever the step."""
        raise NotImplementedError

    @property
    def name(self):
        return type(self).__name__.lower()


class Chooser:
    def __init__(self, seed, steps):
        self.random = Random(seed)
        self.steps = steps
        self.missing = self.random.sample(steps, len(steps))

    def next(self, rig):
        """(step, its arguments)"""
        possible = [step for step in self.steps if step.possible(rig)]
        step = next((step for step in self.missing if step in possible), None)
        if step:
            self.missing.remove(step)
        else:
            step, = self.random.choices(possible, [s.weight for s in possible])
        return step, step.plan(self.random, rig)
