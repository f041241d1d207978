from mlpipe import definitions

defs = definitions(__file__)
