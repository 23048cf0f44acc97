"""A multilayer perceptron on y = sin(2 pi tan x): the example of docs/adding-a-service.md."""
