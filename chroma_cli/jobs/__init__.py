"""From paid to saved."""
