"""What the notebooks of the ALN compendium are written in: cohorts, imaging, radiomics, models, training, explanations,
the pipeline that runs them and the report.

Statistics of predictions live in `alneval`, simulated patients in `alnsim`; those two import of this package only `errors`
and `files`. Nothing is imported here, so that a command that needs only tables never pays for torch.
"""

__version__ = "0.1.0"
