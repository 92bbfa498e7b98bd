"""An example of a plugin for fastconv in pure NumPy: a layer, a loss, a data set and a network."""
