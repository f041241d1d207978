"""The Dockerfiles of both kinds of image, and the build contexts."""
