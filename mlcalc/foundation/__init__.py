"""Published potentials rebuilt on our networks, with their authors' weights."""

from mlcalc.foundation.published import Published, load_checkpoint, load_published, published

__all__ = ["Published", "load_checkpoint", "load_published", "published"]
