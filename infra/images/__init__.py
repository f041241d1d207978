"""The Dockerfiles of both kinds of image, and the folders that they are built from."""
