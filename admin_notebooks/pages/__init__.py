"""The desk in a browser: who may sign in, and the server that shows the notebooks as pages."""
