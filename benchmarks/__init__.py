"""Side by side with the peers: `python -m benchmarks.lif`. See benchmarks/README.md."""
