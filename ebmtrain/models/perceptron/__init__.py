"""The multilayer perceptron in C++ and Triton."""
