"""Gibbs sweeps over sites that interact in pairs, in C++."""
