"""Background jobs: a queue that loses nothing, the runner of its jobs, and the webhooks that tell of their end."""
