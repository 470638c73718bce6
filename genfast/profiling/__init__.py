"""Profiles: how long each operator or step takes, and how near that comes to what this machine was measured to do."""

from genfast.profiling.ceilings import Ceilings, measure
from genfast.profiling.profile import Profile, Row
from genfast.profiling.sampler import profile_sampler
from genfast.profiling.table import table

__all__ = ["Ceilings", "Profile", "Row", "measure", "profile_sampler", "table"]
