// Langevin and leapfrog steps of a block of chains on E = f + precision ||x||^2 / 2.

#pragma once

#include "layers.h"

// Returns f at the points of the tape; dE/dx goes to tape.gradient_x.
static Column energy_gradient(const Network &net, const Tape &tape, float precision) {
    Column f = forward(net, tape);
    input_gradient(net, tape);
    for (int64_t i = 0; i < net.dims; i++)
        tape.gradient_x[i] = tape.gradient_x[i] + precision * tape.x[i];
    return f;
}

// x <- x - sizes[t] dE/dx + scales[t] noise[t] for t < k. The noise of successive steps is
// `noise_stride` floats apart in memory.
static void langevin_block(const Network &net, const Tape &tape, int64_t count, float precision,
                           int64_t k, const float *sizes, const float *scales, const float *noise,
                           int64_t noise_stride) {
    for (int64_t t = 0; t < k; t++, noise += noise_stride) {
        energy_gradient(net, tape, precision);
        gather(noise, count, net.dims, tape.p);
        for (int64_t i = 0; i < net.dims; i++)
            tape.x[i] = tape.x[i] - sizes[t] * tape.gradient_x[i] + scales[t] * tape.p[i];
    }
}

// Momenta p <- p - fraction * size * dE/dx.
INLINE void kick(const Network &net, const Tape &tape, const Column &size, float fraction) {
    for (int64_t i = 0; i < net.dims; i++)
        tape.p[i] = tape.p[i] - fraction * size * tape.gradient_x[i];
}

// k leapfrog steps of the tape's points x and momenta p, in place. The tape holds dE/dx at x before
// and after. Returns f at the last points. Two successive half kicks are merged into one.
static Column leapfrog_block(const Network &net, const Tape &tape, float precision, int64_t k,
                             const Column &eps, float inverse_temperature) {
    const Column size = inverse_temperature * eps;
    Column f = constant(0.0f);
    for (int64_t t = 0; t < k; t++) {
        kick(net, tape, size, t ? 1.0f : 0.5f);
        for (int64_t i = 0; i < net.dims; i++) tape.x[i] = tape.x[i] + eps * tape.p[i];
        f = energy_gradient(net, tape, precision);
    }
    kick(net, tape, size, 0.5f);
    return f;
}
