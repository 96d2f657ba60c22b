"""A real Kubernetes control plane and a node whose containers are local processes. See docs/test-bed.md."""
