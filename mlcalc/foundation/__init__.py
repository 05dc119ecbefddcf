"""Published potentials rebuilt on our networks, with their authors' weights."""

from mlcalc.foundation.published import Published, is_installed, load_checkpoint, load_published, published

__all__ = ["Published", "is_installed", "load_checkpoint", "load_published", "published"]
