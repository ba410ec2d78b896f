"""Where trainings and evaluations run."""
