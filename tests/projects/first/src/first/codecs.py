"""A file format of the project's own: a table of means as lines of text."""


class Means(dict):
    """A mean per name."""


class MeansCodec:
    name = "means"

    def takes(self, value):
        return isinstance(value, Means)

    def save(self, value):
        return "".join(f"{name}\t{mean!r}\n" for name, mean in sorted(value.items())).encode()

    def load(self, content):
        pairs = (line.split("\t") for line in content.decode().splitlines())
        return Means({name: float(mean) for name, mean in pairs})
