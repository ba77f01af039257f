"""The branches of the command line that read or write files, and the one that serves the desk."""
