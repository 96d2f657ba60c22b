"""The operator as a process: watches, one work queue, probes. The only package that knows kopf."""
