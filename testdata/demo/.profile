# Read by a login shell of the demo.
