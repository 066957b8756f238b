// Compiled for the header that comes before it.
