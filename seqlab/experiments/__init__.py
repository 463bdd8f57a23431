"""Many trainings: the plan of what to measure, leaderboard, sweeps, tuning."""
