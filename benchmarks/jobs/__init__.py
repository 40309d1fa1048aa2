"""What the durable queue takes and gives."""
