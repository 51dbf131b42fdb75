"""The perceptron of models/mlp.py in C++ and Triton."""
