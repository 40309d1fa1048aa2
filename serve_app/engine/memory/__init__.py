"""Memory in bytes: what a device has, and what the engine plans to take."""
