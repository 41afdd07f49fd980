"""What operators and customers read of a running relay: health, metrics, status, explanations."""
