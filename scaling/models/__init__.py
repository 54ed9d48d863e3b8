"""Models as Flax NNX modules. They know no sweep, no file and no flag."""
