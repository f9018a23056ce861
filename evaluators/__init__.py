"""How good an architecture is: training, metrics and photographs."""
