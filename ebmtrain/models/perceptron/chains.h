// Steps of chains on a perceptron, E = f + precision ||x||^2 / 2, for a block; see perceptron.h.

#pragma once

#include "layers.h"

// dE/dx at the points of a tape, into it; f.
static Column descend(const Network &net, const Tape &tape, float precision) {
    Column f = output(net, tape);
    gradient_of_points(net, tape);
    for (int64_t i = 0; i < net.dims; i++)
        tape.of_x[i] = tape.of_x[i] + precision * tape.x[i];
    return f;
}

// x <- x - sizes[t] dE/dx + scales[t] noise[t] for t < k; the noise of a step is `apart` from that
// of the one before.
static void langevin(const Network &net, const Tape &tape, int64_t count, float precision,
                     int64_t k, const float *sizes, const float *scales, const float *noise,
                     int64_t apart) {
    for (int64_t t = 0; t < k; t++, noise += apart) {
        descend(net, tape, precision);
        gather(noise, count, net.dims, tape.p);
        for (int64_t i = 0; i < net.dims; i++)
            tape.x[i] = tape.x[i] - sizes[t] * tape.of_x[i] + scales[t] * tape.p[i];
    }
}

// Momenta p <- p - share * size * dE/dx.
INLINE void kick(const Network &net, const Tape &tape, const Column &size, float share) {
    for (int64_t i = 0; i < net.dims; i++)
        tape.p[i] = tape.p[i] - share * size * tape.of_x[i];
}

// k leapfrog steps of points x and momenta p of a tape, from the gradient in it to that at the end;
// f there. Two half kicks in a row are one.
static Column leapfrog(const Network &net, const Tape &tape, float precision, int64_t k,
                       const Column &eps, float inverse_temperature) {
    const Column size = inverse_temperature * eps;
    Column f = constant(0.0f);
    for (int64_t t = 0; t < k; t++) {
        kick(net, tape, size, t ? 1.0f : 0.5f);
        for (int64_t i = 0; i < net.dims; i++) tape.x[i] = tape.x[i] + eps * tape.p[i];
        f = descend(net, tape, precision);
    }
    kick(net, tape, size, 0.5f);
    return f;
}
