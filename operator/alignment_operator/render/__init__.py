"""Pure: what the operator decided, as the manifests that say so."""

from alignment_operator.render.job import render_job
from alignment_operator.render.meeting import render_service
from alignment_operator.render.revision import parse_revision, render_revision
from alignment_operator.render.target import render_target

__all__ = ["parse_revision", "render_job", "render_revision", "render_service", "render_target"]
