"""A text that comes in: taken from a gateway's request, kept, and handled by the first listener that it is for."""
