"""The update: K steps of S seeds as one function of flat tensors, compiled where that pays."""
