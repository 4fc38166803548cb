"""The benchmark: the same networks, batches, loss and optimizer in Jittor and in PyTorch."""
