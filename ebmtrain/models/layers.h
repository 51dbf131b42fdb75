// The layers of a perceptron, there and back, for a block of points; see perceptron.cpp.

#pragma once

#include <utility>

#include "lanes.h"

enum Activation { LEAKY_RELU, SILU };

struct Network {
    int64_t dims, n_frequencies;   // what a point has; rows of the random frequencies
    int64_t depth;                 // hidden layers
    const int64_t *sizes;          // features, the units of each hidden layer, the one output
    const float *const *weights;   // depth + 1 of (outputs, inputs)
    const float *const *biases;
    const float *frequencies;      // (n_frequencies, dims)
    float scale;                   // of the inputs
    int64_t activation;
};

// What a block leaves on its way there. Units, f'(z) and f''(z) are of all hidden layers, one after
// another. Of a direction u of each point there are the derivatives along it: of features and
// units, and of what activations are applied to.
struct Tape {
    Column *x, *of_x, *p;  // points, the gradient with respect to them, momenta or noise of chains
    Column *features, *units, *slopes, *curves;
    Column *u, *features_along, *units_along, *z_along;
    Column *one, *other, *one_along, *other_along;  // for the way back
};

// z -> f(z), with f'(z) beside it and, where not null, f''(z).
INLINE void activate(int64_t activation, Column *units, Column *slopes, Column *curves, int64_t m) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++) {
            Lanes z = units[i].part[j], slope, curve;
            if (activation == SILU) {
                Lanes s = 1.0f / (1.0f + exponential(-z));
                units[i].part[j] = z * s;
                slope = s + z * s * (1.0f - s);
                curve = s * (1.0f - s) * (2.0f + z * (1.0f - 2.0f * s));
            } else {
                slope = z > 0.0f ? all(1.0f) : all(0.01f);
                units[i].part[j] = z * slope;
                curve = all(0.0f);
            }
            slopes[i].part[j] = slope;
            if (curves) curves[i].part[j] = curve;
        }
}

// x -> [scale * x, cos(W x), sin(W x)]
static void embed(const Network &net, const Column *x, Column *features) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++) features[i] = net.scale * x[i];
    Column *cosines = features + d, *sines = cosines + m;
    times(net.frequencies, nullptr, x, d, sines, m);
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++)
            circle(sines[i].part[j], &cosines[i].part[j], &sines[i].part[j]);
}

// What `embed` makes of a gradient, on the way back; that of the features is used up.
static void pull_back(const Network &net, const Column *features, Column *of_features,
                      Column *gradient) {
    int64_t d = net.dims, m = net.n_frequencies;
    const Column *cosines = features + d, *sines = cosines + m;
    Column *of_phases = of_features + d, *of_sines = of_phases + m;
    for (int64_t i = 0; i < m; i++)
        of_phases[i] = of_sines[i] * cosines[i] - of_phases[i] * sines[i];
    times_transposed(net.frequencies, of_phases, m, gradient, d);
    for (int64_t i = 0; i < d; i++) gradient[i] = gradient[i] + net.scale * of_features[i];
}

// What `embed` makes of a direction.
static void embed_along(const Network &net, const Column *features, const Column *u,
                        Column *along) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++) along[i] = net.scale * u[i];
    const Column *cosines = features + d, *sines = cosines + m;
    Column *of_cosines = along + d, *of_sines = of_cosines + m;
    times(net.frequencies, nullptr, u, d, of_sines, m);
    for (int64_t i = 0; i < m; i++) {
        Column of_phase = of_sines[i];
        of_cosines[i] = -1.0f * of_phase * sines[i];
        of_sines[i] = of_phase * cosines[i];
    }
}

// f of the points of a tape.
static Column output(const Network &net, const Tape &tape) {
    embed(net, tape.x, tape.features);
    const Column *below = tape.features;
    Column *units = tape.units, *slopes = tape.slopes, *curves = tape.curves;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        times(net.weights[l], net.biases[l], below, n, units, m);
        activate(net.activation, units, slopes, curves, m);
        below = units;
        units += m;
        slopes += m;
        if (curves) curves += m;
    }
    Column f;
    times(net.weights[net.depth], net.biases[net.depth], below, net.sizes[net.depth], &f, 1);
    return f;
}

INLINE void multiply(Column *units, const Column *slopes, int64_t m) {
    for (int64_t i = 0; i < m; i++) units[i] = units[i] * slopes[i];
}

// After `output`: the derivatives along directions u (count, dims).
static void along(const Network &net, const float *u, int64_t count, const Tape &tape) {
    gather(u, count, net.dims, tape.u);
    embed_along(net, tape.features, tape.u, tape.features_along);
    const Column *below = tape.features_along, *slopes = tape.slopes;
    Column *units = tape.units_along, *z = tape.z_along;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        times(net.weights[l], nullptr, below, n, z, m);
        std::memcpy((void *)units, z, m * sizeof(Column));
        multiply(units, slopes, m);
        below = units;
        units += m;
        z += m;
        slopes += m;
    }
}

static int64_t hidden(const Network &net) {
    int64_t sum = 0;
    for (int64_t l = 1; l <= net.depth; l++) sum += net.sizes[l];
    return sum;
}

// After `output`: its gradient with respect to the points.
static void gradient_of_points(const Network &net, const Tape &tape) {
    const Column one = constant(1.0f), *of_z = &one;
    Column *now = tape.one, *next = tape.other;
    int64_t at = hidden(net);
    for (int64_t l = net.depth; l >= 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        times_transposed(net.weights[l], of_z, m, now, n);
        if (l) multiply(now, tape.slopes + (at -= n), n);
        of_z = now;
        std::swap(now, next);
    }
    pull_back(net, tape.features, next, tape.of_x);
}
