/// What a compiler takes to start.
int nothing() { return 0; }
