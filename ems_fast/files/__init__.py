"""Files and folders that are read as a stream and written whole or not at all."""
