"""The authors' released checkpoint: its names, its preprocessing, how it is loaded."""
