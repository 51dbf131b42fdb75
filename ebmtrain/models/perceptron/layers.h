// The layers of a perceptron, there and back, for a block of points; see perceptron.h.

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

// A derivative of what a block leaves: of points, of the phases that embed them, of features and
// units, and of what activations are applied to.
struct Along {
    Column *x, *phases, *features, *units, *z;
    Column *one, *other;  // for the way back
};

// What a block leaves on its way there. Units, f'(z), f''(z), f'''(z) and the derivatives of f with
// respect to units are of all hidden layers, one after another. Of a path x + t w + t^2 / 2 u of
// each point there are the first and the second derivative at t = 0; without w the second is the
// derivative along u.
struct Tape {
    Column *x, *of_x, *p;  // points, the gradient with respect to them; momenta or noise of chains,
                           // or what is as long
    Column *features, *units, *slopes, *curves, *bends, *of_units;
    Column *one, *other;  // for the way back
    Along first, second;
};

// z -> f(z), with f'(z) beside it and, where not null, f''(z) and f'''(z).
INLINE void activate(int64_t activation, Column *units, Column *slopes, Column *curves,
                     Column *bends, int64_t m) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++) {
            Lanes z = units[i].part[j], slope, curve, bend;
            if (activation == SILU) {
                Lanes s = 1.0f / (1.0f + exponential(-z)), of_s = s * (1.0f - s);
                units[i].part[j] = z * s;
                slope = s + z * of_s;
                curve = of_s * (2.0f + z * (1.0f - 2.0f * s));
                bend = of_s * (3.0f * (1.0f - 2.0f * s) + z * (1.0f - 6.0f * of_s));
            } else {
                slope = z > 0.0f ? all(1.0f) : all(0.01f);
                units[i].part[j] = z * slope;
                curve = bend = all(0.0f);
            }
            slopes[i].part[j] = slope;
            if (curves) curves[i].part[j] = curve;
            if (bends) bends[i].part[j] = bend;
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

// What `embed` makes of a direction; in a second derivative also of a first one, whose squares
// count b times.
static void embed_along(const Network &net, const Column *features, const Along &to,
                        const Along *first, const Column &b) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++) to.features[i] = net.scale * to.x[i];
    const Column *cosines = features + d, *sines = cosines + m;
    Column *of_cosines = to.features + d, *of_sines = of_cosines + m;
    times(net.frequencies, nullptr, to.x, d, to.phases, m);
    for (int64_t i = 0; i < m; i++) {
        of_cosines[i] = -1.0f * to.phases[i] * sines[i];
        of_sines[i] = to.phases[i] * cosines[i];
        if (!first) continue;
        Column square = b * first->phases[i] * first->phases[i];
        of_cosines[i] = of_cosines[i] - square * cosines[i];
        of_sines[i] = of_sines[i] - square * sines[i];
    }
}

static Column output(const Network &net, const Tape &tape) {
    embed(net, tape.x, tape.features);
    const Column *below = tape.features;
    Column *units = tape.units, *slopes = tape.slopes, *curves = tape.curves, *bends = tape.bends;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        times(net.weights[l], net.biases[l], below, n, units, m);
        activate(net.activation, units, slopes, curves, bends, m);
        below = units;
        units += m;
        slopes += m;
        if (curves) curves += m;
        if (bends) bends += m;
    }
    Column f;
    times(net.weights[net.depth], net.biases[net.depth], below, net.sizes[net.depth], &f, 1);
    return f;
}

// After `output`: the derivatives along the directions u in `to`. With a first derivative, along
// w, they are second ones, b d^2/dt^2 f(x + t w) + d/dt f(x + t u): units h = f(z) have
// h'' = b f''(z) z'^2 + f'(z) z''.
static void along(const Network &net, const Tape &tape, const Along &to,
                  const Along *first = nullptr, const Column &b = Column()) {
    embed_along(net, tape.features, to, first, b);
    const Column *below = to.features;
    int64_t at = 0;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t m = net.sizes[l + 1];
        Column *units = to.units + at, *z = to.z + at;
        times(net.weights[l], nullptr, below, net.sizes[l], z, m);
        for (int64_t i = 0; i < m; i++) units[i] = z[i] * tape.slopes[at + i];
        for (int64_t i = 0; first && i < m; i++)
            units[i] = units[i] + b * tape.curves[at + i] * first->z[at + i] * first->z[at + i];
        below = units;
        at += m;
    }
}

static int64_t hidden(const Network &net) {
    int64_t sum = 0;
    for (int64_t l = 1; l <= net.depth; l++) sum += net.sizes[l];
    return sum;
}

// After `output`: its gradient with respect to the points. Returns, where wanted and after `along`,
// the curvature w' (d^2f/dx^2) w along its direction w: what bends at each activation, and in the
// embedding, times the derivative of f with respect to it.
static Column gradient_of_points(const Network &net, const Tape &tape, bool curvature = false) {
    const Column one = constant(1.0f), *of_z = &one;
    Column sum = constant(0.0f);
    int64_t at = hidden(net);
    for (int64_t l = net.depth; l > 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        at -= n;
        Column *of_units = tape.of_units + at;
        times_transposed(net.weights[l], of_z, m, of_units, n);
        for (int64_t i = 0; curvature && i < n; i++)
            sum = sum +
                  of_units[i] * tape.curves[at + i] * tape.first.z[at + i] * tape.first.z[at + i];
        for (int64_t i = 0; i < n; i++) tape.one[i] = of_units[i] * tape.slopes[at + i];
        of_z = tape.one;
    }
    Column *of_features = tape.other;
    times_transposed(net.weights[0], of_z, net.sizes[1], of_features, net.sizes[0]);
    int64_t m = net.n_frequencies;
    for (int64_t i = net.dims; curvature && i < net.dims + m; i++) {
        Column phase = tape.first.phases[i - net.dims];
        Column bent = tape.features[i] * of_features[i] + tape.features[m + i] * of_features[m + i];
        sum = sum - bent * phase * phase;
    }
    pull_back(net, tape.features, of_features, tape.of_x);
    return sum;
}
