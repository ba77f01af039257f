"""The panels of the notebooks: what a manager sees and clicks, on the same verbs as everything else."""
