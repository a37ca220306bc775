"""What ends up on disk."""
