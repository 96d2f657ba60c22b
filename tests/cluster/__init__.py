"""A real Kubernetes control plane and a node that runs containers as local processes. See docs/test-bed.md."""
