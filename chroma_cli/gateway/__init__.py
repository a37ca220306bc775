"""The one HTTP layer: what is said to the gateway and what its answers mean."""
