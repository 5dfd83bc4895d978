"""The authors' released checkpoint: its names, its preprocessing, its encoder."""

from ems_fast.encoding.released.encoder import ReleasedEncoder, load_released

__all__ = ["ReleasedEncoder", "load_released"]
