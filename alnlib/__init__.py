"""Shared code of the ALN compendium: cohorts, imaging, models, training, evaluation, report and the pipeline that runs them.

Nothing is imported here, so that a command that needs only tables never pays for torch.
"""

__version__ = "0.1.0"
