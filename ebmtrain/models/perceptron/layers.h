// The layers of a perceptron for a block of points: forward, backward and tangent (JVP) passes.

#pragma once

#include <utility>

#include "lanes.h"

enum Activation { LEAKY_RELU, SILU };

struct Network {
    int64_t dims, n_frequencies;   // coordinates of a point; rows of the random frequencies
    int64_t depth;                 // number of hidden layers
    const int64_t *sizes;          // of the features, each hidden layer, and the output (1)
    const float *const *weights;   // depth + 1 matrices (outputs, inputs)
    const float *const *biases;
    const float *frequencies;      // (n_frequencies, dims)
    float scale;                   // factor on the inputs
    int64_t activation;
};

// Directional derivatives of the quantities of a tape: of points x, phases W x, features, units and
// preactivations z.
struct Tangent {
    Column *x, *phases, *features, *units, *z;
    Column *scratch_a, *scratch_b;  // for the backward pass
};

// Intermediate results of the forward pass of a block. Units h = a(z), the derivatives d1 = a'(z),
// d2 = a''(z) and d3 = a'''(z) of the activation a, and the adjoints (df/dh) are stored for all
// hidden layers in succession. `first` and `second` are the derivatives at t = 0 along the path
// x + t w + t^2 / 2 u; without w, `second` is the derivative along u.
struct Tape {
    Column *x, *gradient_x;  // points, and the gradient with respect to them
    Column *p;               // momenta or noise of chains, or scratch of the length of a point
    Column *features, *units, *d1, *d2, *d3, *adjoint_units;
    Column *scratch_a, *scratch_b;  // for the backward pass
    Tangent first, second;
};

// Replaces preactivations z in `units` by a(z). Derivatives go to d1 = a'(z), and to d2 = a''(z)
// and d3 = a'''(z) unless null.
INLINE void activate(int64_t activation, Column *units, Column *d1, Column *d2, Column *d3,
                     int64_t m) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++) {
            Lanes z = units[i].part[j], a1, a2, a3;
            if (activation == SILU) {
                Lanes s = 1.0f / (1.0f + exponential(-z)), ds = s * (1.0f - s);
                units[i].part[j] = z * s;
                a1 = s + z * ds;
                a2 = ds * (2.0f + z * (1.0f - 2.0f * s));
                a3 = ds * (3.0f * (1.0f - 2.0f * s) + z * (1.0f - 6.0f * ds));
            } else {
                a1 = z > 0.0f ? broadcast(1.0f) : broadcast(0.01f);
                units[i].part[j] = z * a1;
                a2 = a3 = broadcast(0.0f);
            }
            d1[i].part[j] = a1;
            if (d2) d2[i].part[j] = a2;
            if (d3) d3[i].part[j] = a3;
        }
}

// x -> [scale * x, cos(W x), sin(W x)]
static void embed(const Network &net, const Column *x, Column *features) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++) features[i] = net.scale * x[i];
    Column *cosines = features + d, *sines = cosines + m;
    multiply(net.frequencies, nullptr, x, d, sines, m);
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++)
            cos_sin(sines[i].part[j], &cosines[i].part[j], &sines[i].part[j]);
}

// The VJP of `embed`: the gradient with respect to x, from adjoint_features, which are overwritten.
static void embed_vjp(const Network &net, const Column *features, Column *adjoint_features,
                      Column *gradient) {
    int64_t d = net.dims, m = net.n_frequencies;
    const Column *cosines = features + d, *sines = cosines + m;
    Column *adjoint_phases = adjoint_features + d, *adjoint_sines = adjoint_phases + m;
    for (int64_t i = 0; i < m; i++)
        adjoint_phases[i] = adjoint_sines[i] * cosines[i] - adjoint_phases[i] * sines[i];
    multiply_transposed(net.frequencies, adjoint_phases, m, gradient, d);
    for (int64_t i = 0; i < d; i++) gradient[i] = gradient[i] + net.scale * adjoint_features[i];
}

// The JVP of `embed`: tangent.features from tangent.x. With `first`, `tangent` is a second
// derivative and includes b times the square of the first one.
static void embed_jvp(const Network &net, const Column *features, const Tangent &tangent,
                      const Tangent *first, const Column &b) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++) tangent.features[i] = net.scale * tangent.x[i];
    const Column *cosines = features + d, *sines = cosines + m;
    Column *tangent_cosines = tangent.features + d, *tangent_sines = tangent_cosines + m;
    multiply(net.frequencies, nullptr, tangent.x, d, tangent.phases, m);
    for (int64_t i = 0; i < m; i++) {
        tangent_cosines[i] = -1.0f * tangent.phases[i] * sines[i];
        tangent_sines[i] = tangent.phases[i] * cosines[i];
        if (!first) continue;
        Column square = b * first->phases[i] * first->phases[i];
        tangent_cosines[i] = tangent_cosines[i] - square * cosines[i];
        tangent_sines[i] = tangent_sines[i] - square * sines[i];
    }
}

// f at the points of the tape; fills the tape.
static Column forward(const Network &net, const Tape &tape) {
    embed(net, tape.x, tape.features);
    const Column *inputs = tape.features;
    Column *units = tape.units, *d1 = tape.d1, *d2 = tape.d2, *d3 = tape.d3;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        multiply(net.weights[l], net.biases[l], inputs, n, units, m);
        activate(net.activation, units, d1, d2, d3, m);
        inputs = units;
        units += m;
        d1 += m;
        if (d2) d2 += m;
        if (d3) d3 += m;
    }
    Column f;
    multiply(net.weights[net.depth], net.biases[net.depth], inputs, net.sizes[net.depth], &f, 1);
    return f;
}

// After `forward`: fills the tangent from its directions u = tangent.x. With `first`, the
// derivative along w, it is the second one, b d^2/dt^2 f(x + t w) + d/dt f(x + t u): units
// h = a(z) have h'' = b a''(z) z'^2 + a'(z) z''.
static void jvp(const Network &net, const Tape &tape, const Tangent &tangent,
                const Tangent *first = nullptr, const Column &b = Column()) {
    embed_jvp(net, tape.features, tangent, first, b);
    const Column *inputs = tangent.features;
    int64_t at = 0;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t m = net.sizes[l + 1];
        Column *units = tangent.units + at, *z = tangent.z + at;
        multiply(net.weights[l], nullptr, inputs, net.sizes[l], z, m);
        for (int64_t i = 0; i < m; i++) units[i] = z[i] * tape.d1[at + i];
        for (int64_t i = 0; first && i < m; i++)
            units[i] = units[i] + b * tape.d2[at + i] * first->z[at + i] * first->z[at + i];
        inputs = units;
        at += m;
    }
}

// Units of all hidden layers.
static int64_t n_hidden_units(const Network &net) {
    int64_t sum = 0;
    for (int64_t l = 1; l <= net.depth; l++) sum += net.sizes[l];
    return sum;
}

// After `forward`: the gradient of f with respect to the points, in tape.gradient_x. With
// `curvature`, after `jvp`, returns w' (d^2f/dx^2) w along its direction w: the sum over
// activations and embedding of their second derivative times the adjoint.
static Column input_gradient(const Network &net, const Tape &tape, bool curvature = false) {
    const Column one = constant(1.0f), *adjoint_z = &one;
    Column sum = constant(0.0f);
    int64_t at = n_hidden_units(net);
    for (int64_t l = net.depth; l > 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        at -= n;
        Column *adjoint_units = tape.adjoint_units + at;
        multiply_transposed(net.weights[l], adjoint_z, m, adjoint_units, n);
        for (int64_t i = 0; curvature && i < n; i++)
            sum = sum + adjoint_units[i] * tape.d2[at + i] * tape.first.z[at + i] *
                            tape.first.z[at + i];
        for (int64_t i = 0; i < n; i++) tape.scratch_a[i] = adjoint_units[i] * tape.d1[at + i];
        adjoint_z = tape.scratch_a;
    }
    Column *adjoint_features = tape.scratch_b;
    multiply_transposed(net.weights[0], adjoint_z, net.sizes[1], adjoint_features, net.sizes[0]);
    int64_t m = net.n_frequencies;
    for (int64_t i = net.dims; curvature && i < net.dims + m; i++) {
        Column phase = tape.first.phases[i - net.dims];
        Column phase_term = tape.features[i] * adjoint_features[i] +
                            tape.features[m + i] * adjoint_features[m + i];
        sum = sum - phase_term * phase * phase;
    }
    embed_vjp(net, tape.features, adjoint_features, tape.gradient_x);
    return sum;
}
