// The perceptron of mlp.py: f, its gradient and curvature with respect to points, the gradients of
// these with respect to the parameters, and chain steps.
//
// Points are independent of each other. A block of them, in the lanes of vector registers, goes
// through all layers, forward and backward, before the next block, so that activations stay in the
// cache. Called by perceptron.cpp.

#pragma once

#include <cstdlib>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "chains.h"
#include "layers.h"

// Sums over points of the gradient with respect to a matrix (m, n) and its bias. For a small matrix
// each lane has its own sum until the end; otherwise a column holds POINTS entries of a row.
struct GradientSums {
    int64_t m, n;
    bool per_lane;
    int64_t columns;  // per row of the matrix
    Column *weights, *biases;
};

INLINE GradientSums make_sums(int64_t m, int64_t n) {
    bool per_lane = m == 1 || n <= 4;
    return {m, n, per_lane, per_lane ? n : (n + POINTS - 1) / POINTS, nullptr, nullptr};
}

static void add_bias(const GradientSums &sums, const Column *adjoint_units) {
    for (int64_t i = 0; i < sums.m; i++) sums.biases[i] = sums.biases[i] + adjoint_units[i];
}

static void add(const GradientSums &sums, const Column *adjoint_units, const Column *inputs) {
    if (sums.per_lane) {
        for (int64_t i = 0; i < sums.m; i++)
            for (int64_t k = 0; k < sums.n; k++) {
                Column &sum = sums.weights[i * sums.n + k];
                sum = sum + adjoint_units[i] * inputs[k];
            }
        return;
    }
    for (int64_t c = 0; c < sums.columns; c++) {
        Column transposed[POINTS];  // a column for each point: POINTS of its inputs
        int64_t rest = sums.n - c * POINTS, width = rest < POINTS ? rest : POINTS;
        // Lanes beyond `width` are not used in results; zeros keep their values defined.
        if (width < POINTS) std::memset((void *)transposed, 0, sizeof(transposed));
        for (int64_t k = 0; k < width; k++)
            for (int64_t p = 0; p < POINTS; p++)
                floats(transposed + p)[k] = floats(inputs + c * POINTS + k)[p];
        product(floats(adjoint_units), POINTS, 1, nullptr, true, transposed, POINTS,
                sums.weights + c, sums.columns, sums.m);
    }
}

INLINE float lane_sum(const Column &column) {
    float sum = 0.0f;
    for (int p = 0; p < POINTS; p++) sum += floats(&column)[p];
    return sum;
}

// Writes the sums as (m, n) floats followed by m floats; returns the end.
static float *write_sums(const GradientSums &sums, float *out) {
    for (int64_t i = 0; i < sums.m; i++, out += sums.n) {
        const Column *row = sums.weights + i * sums.columns;
        if (sums.per_lane)
            for (int64_t k = 0; k < sums.n; k++) out[k] = lane_sum(row[k]);
        else
            std::memcpy(out, row, sums.n * sizeof(float));
    }
    for (int64_t i = 0; i < sums.m; i++) *out++ = lane_sum(sums.biases[i]);
    return out;
}

// Adds the parameter gradient of sum_p v[p] f(x[p]) and, with `second`, of f's second derivative
// (`jvp` with tape.second, after `input_gradient`). `first`: that derivative includes the square of
// the first one with the factor b.
static void parameter_gradient(const Network &net, const Tape &tape, const Column &v, bool first,
                               bool second, const Column &b,
                               const std::vector<GradientSums> &sums) {
    const Column one = constant(1.0f), zero = constant(0.0f);
    // Adjoints of z, z' and z'', and of units h, h', then z, z' of the layer below.
    const Column *adjoint_z = &v, *adjoint_z1 = &zero, *adjoint_z2 = &one;
    Column *current = tape.scratch_a, *next = tape.scratch_b;
    Column *current1 = tape.first.scratch_a, *next1 = tape.first.scratch_b;
    int64_t at = n_hidden_units(net);
    for (int64_t l = net.depth; l >= 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        at -= l ? n : 0;  // start of the layer below
        add_bias(sums[l], adjoint_z);
        add(sums[l], adjoint_z, l ? tape.units + at : tape.features);
        if (first) add(sums[l], adjoint_z1, l ? tape.first.units + at : tape.first.features);
        if (second) add(sums[l], adjoint_z2, l ? tape.second.units + at : tape.second.features);
        if (!l) return;
        multiply_transposed(net.weights[l], adjoint_z, m, current, n);
        for (int64_t i = 0; i < n; i++) current[i] = current[i] * tape.d1[at + i];
        const Column *adjoint_h2 = tape.adjoint_units + at;
        if (second)
            for (int64_t i = 0; i < n; i++)
                current[i] = current[i] + adjoint_h2[i] * tape.d2[at + i] * tape.second.z[at + i];
        if (first) {  // of h'' = b a''(z) z'^2 + a'(z) z'' and h' = a'(z) z'
            multiply_transposed(net.weights[l], adjoint_z1, m, current1, n);
            for (int64_t i = 0; i < n; i++) {
                Column z1 = tape.first.z[at + i], d2_z1 = tape.d2[at + i] * z1;
                Column square_factor = b * adjoint_h2[i];
                current[i] = current[i] + current1[i] * d2_z1 +
                             square_factor * tape.d3[at + i] * z1 * z1;
                current1[i] = current1[i] * tape.d1[at + i] + 2.0f * square_factor * d2_z1;
            }
        }
        Column *current2 = tape.second.scratch_a;
        for (int64_t i = 0; second && i < n; i++) current2[i] = adjoint_h2[i] * tape.d1[at + i];
        adjoint_z = current;
        adjoint_z1 = current1;
        adjoint_z2 = current2;
        std::swap(current, next);
        std::swap(current1, next1);
    }
}

static int64_t max_layer_size(const Network &net) {
    int64_t size = 1;
    for (int64_t l = 0; l <= net.depth; l++) size = net.sizes[l] > size ? net.sizes[l] : size;
    return size;
}

// What a tape is used for: the highest derivative with respect to points, 0 to 2, and whether all
// results are differentiated with respect to the parameters.
struct TapeSpec {
    int order;
    bool parameters;
};

// Columns of a tape: those that the backward pass reads, and scratch.
struct Lengths {
    int64_t taped, other;
};

// Places the arrays of a tape in two buffers; `lengths` gets the sizes of the buffers, which may be
// null then.
static Tape place_tape(const Network &net, TapeSpec spec, Column *taped, Column *other,
                       Lengths *lengths = nullptr) {
    Lengths at = {0, 0};
    int64_t all_units = n_hidden_units(net), max_size = max_layer_size(net);
    auto take = [](Column *memory, int64_t &at, int64_t n, bool needed) {
        Column *begin = needed && memory ? memory + at : nullptr;
        at += needed ? n : 0;
        return begin;
    };
    auto keep = [&](int64_t n, bool needed = true) { return take(taped, at.taped, n, needed); };
    auto use = [&](int64_t n, bool needed = true) { return take(other, at.other, n, needed); };
    auto tangent = [&](auto next, bool needed) {
        Tangent result;
        result.x = next(net.dims, needed);
        result.phases = next(net.n_frequencies, needed);
        result.features = next(net.sizes[0], needed);
        result.units = next(all_units, needed);
        result.z = next(all_units, needed);
        result.scratch_a = use(max_size, needed && spec.parameters);
        return result;
    };
    bool gradient = spec.order > 0, curvature = spec.order > 1;
    Tape tape;
    tape.x = use(net.dims);
    tape.gradient_x = use(net.dims);
    tape.p = use(net.dims);
    tape.scratch_a = use(max_size);
    tape.scratch_b = use(max_size);
    tape.features = keep(net.sizes[0]);
    tape.units = keep(all_units);
    tape.d1 = keep(all_units);
    tape.adjoint_units = keep(all_units, gradient);
    tape.d2 = keep(all_units, curvature || (gradient && spec.parameters));
    tape.d3 = keep(all_units, curvature && spec.parameters);
    tape.first = tangent(keep, curvature);
    tape.first.scratch_b = use(max_size, curvature && spec.parameters);
    tape.second = tangent(use, gradient && spec.parameters);
    if (lengths) *lengths = at;
    return tape;
}

static Lengths tape_lengths(const Network &net, TapeSpec spec) {
    Lengths lengths;
    place_tape(net, spec, nullptr, nullptr, &lengths);
    return lengths;
}

static std::vector<GradientSums> place_sums(const Network &net, Column *memory) {
    std::vector<GradientSums> layers;
    for (int64_t l = 0; l <= net.depth; l++) {
        GradientSums sums = make_sums(net.sizes[l + 1], net.sizes[l]);
        sums.weights = memory;
        sums.biases = memory + sums.m * sums.columns;
        memory = sums.biases + sums.m;
        layers.push_back(sums);
    }
    return layers;
}

static int64_t sums_length(const Network &net) {
    int64_t sum = 0;
    for (const GradientSums &sums : place_sums(net, nullptr)) sum += sums.m * (sums.columns + 1);
    return sum;
}

static int64_t n_blocks(int64_t n) { return (n + POINTS - 1) / POINTS; }

// Threads for a number of blocks: at most one thread per block.
static int n_threads(int64_t blocks, int threads) {
    return blocks < threads ? (blocks > 1 ? blocks : 1) : threads;
}

INLINE int thread_index() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// A buffer of the calling thread, freed when it ends. The system would clear new memory page by
// page at each call.
struct ThreadBuffer {
    Column *columns = nullptr;
    int64_t length = 0;

    // At least n columns, uninitialized.
    Column *reserve(int64_t n) {
        if (n > length) {
            std::free(columns);
            columns = (Column *)std::aligned_alloc(sizeof(Column), n * sizeof(Column));
            length = columns ? n : 0;
            if (!columns) throw std::bad_alloc();
        }
        return columns;
    }

    ~ThreadBuffer() { std::free(columns); }
};

static thread_local ThreadBuffer thread_buffer;

// Several networks of the same sizes, whose weights, points, results and gradients are contiguous
// in memory; and the number of threads.
struct Networks {
    Network first;
    int64_t members, n;  // number of networks; points of each
    int threads;
};

// One of these networks.
struct MemberNetwork {
    std::vector<const float *> weights, biases;
    Network net;

    MemberNetwork(const Network &first, int64_t i) : net(first) {
        for (int64_t l = 0; l <= first.depth; l++) {
            weights.push_back(first.weights[l] + i * first.sizes[l + 1] * first.sizes[l]);
            biases.push_back(first.biases[l] + i * first.sizes[l + 1]);
        }
        net.weights = weights.data();
        net.biases = biases.data();
        net.frequencies += i * first.n_frequencies * first.dims;
    }
};

static std::vector<MemberNetwork> member_networks(const Networks &all) {
    std::vector<MemberNetwork> networks;
    networks.reserve(all.members);
    for (int64_t i = 0; i < all.members; i++) networks.emplace_back(all.first, i);
    return networks;
}

// Calls `work` for each block of points of each member, with the network, a tape, the index of the
// block's first point among the points of all members, and its number of points. The tape is stored
// in `taped` unless null. Blocks are scheduled dynamically, since cores are seldom equally fast.
template <class Work>
static void for_each_block(const Networks &all, TapeSpec spec, Column *taped, Work work) {
    int64_t n = all.n, blocks = n_blocks(n), count = all.members * blocks;
    int threads = n_threads(count, all.threads);
    Lengths lengths = tape_lengths(all.first, spec);
    int64_t per_thread = lengths.other + (taped ? 0 : lengths.taped);
    Column *memory = thread_buffer.reserve(threads * per_thread);
    const std::vector<MemberNetwork> members = member_networks(all);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (int64_t j = 0; j < count; j++) {
        int64_t i = j / blocks, p = j % blocks * POINTS;
        const Network &net = members[i].net;
        Column *start = memory + thread_index() * per_thread;
        Column *block_tape = taped ? taped + j * lengths.taped : start + lengths.other;
        Tape tape = place_tape(net, spec, block_tape, start);
        work(net, tape, i * n + p, n - p < POINTS ? n - p : POINTS);
    }
}

// Floats in the tape of n points.
static int64_t tape_floats(const Network &net, int64_t n, int order) {
    return n_blocks(n) * tape_lengths(net, {order, true}).taped * POINTS;
}

// Results for the points x (n, dims) of each member: f (n), its gradient (n, dims) with respect to
// x, and the curvature w' (d^2f/dx^2) w (n) along directions w (n, dims). The last two may be null.
struct Outputs {
    float *f, *gradient, *curvature;
};

// f and the curvature at the points of a block.
struct BlockValues {
    Column f, curvature;
};

// Computes the outputs for the `count` points from index `at`, and fills the tape.
static BlockValues forward_block(const Network &net, const Tape &tape, int64_t at, int64_t count,
                                 const float *x, const float *w, const Outputs &outputs) {
    BlockValues values = {constant(0.0f), constant(0.0f)};
    gather(x + at * net.dims, count, net.dims, tape.x);
    values.f = forward(net, tape);
    std::memcpy(outputs.f + at, &values.f, count * sizeof(float));
    if (!outputs.gradient) return values;
    if (w) {
        gather(w + at * net.dims, count, net.dims, tape.first.x);
        jvp(net, tape, tape.first);
    }
    values.curvature = input_gradient(net, tape, w);
    scatter(tape.gradient_x, count, net.dims, outputs.gradient + at * net.dims);
    if (w) std::memcpy(outputs.curvature + at, &values.curvature, count * sizeof(float));
    return values;
}

// Computes the outputs at points x, with directions w unless null. The tape for `parameter_vjp`
// goes to `taped` unless null; its length is `tape_floats`.
static void evaluate(const Networks &all, const float *x, const float *w, const Outputs &outputs,
                     float *taped) {
    auto work = [&](const Network &net, const Tape &tape, int64_t at, int64_t count) {
        forward_block(net, tape, at, count, x, w, outputs);
    };
    TapeSpec spec = {w ? 2 : outputs.gradient ? 1 : 0, taped != nullptr};
    for_each_block(all, spec, (Column *)taped, work);
}

// k Langevin steps from x (n, dims) to `ends`, with noise (k, n, dims), for each member; see
// `langevin_block`.
static void langevin_chains(const Networks &all, const float *x, const float *noise,
                            const float *sizes, const float *scales, float *ends, float precision,
                            int64_t k) {
    int64_t n = all.n;
    auto work = [=](const Network &net, const Tape &tape, int64_t at, int64_t count) {
        int64_t member = at / n, step = n * net.dims;
        gather(x + at * net.dims, count, net.dims, tape.x);
        langevin_block(net, tape, count, precision, k, sizes, scales,
                       noise + member * (k - 1) * step + at * net.dims, step);
        scatter(tape.x, count, net.dims, ends + at * net.dims);
    };
    for_each_block(all, {1, false}, nullptr, work);
}

// k leapfrog steps of points x, momenta p and gradients, all (n, dims), in place, with a step size
// eps (n) for each chain; writes f (n). See `leapfrog_block`.
static void leapfrog_chains(const Networks &all, float *x, float *p, float *gradient,
                            const float *eps, float *f, float precision,
                            float inverse_temperature, int64_t k) {
    auto work = [=](const Network &net, const Tape &tape, int64_t at, int64_t count) {
        Column size;
        gather(eps + at, count, 1, &size);
        gather(x + at * net.dims, count, net.dims, tape.x);
        gather(p + at * net.dims, count, net.dims, tape.p);
        gather(gradient + at * net.dims, count, net.dims, tape.gradient_x);
        Column values = leapfrog_block(net, tape, precision, k, size, inverse_temperature);
        std::memcpy(f + at, &values, count * sizeof(float));
        scatter(tape.x, count, net.dims, x + at * net.dims);
        scatter(tape.p, count, net.dims, p + at * net.dims);
        scatter(tape.gradient_x, count, net.dims, gradient + at * net.dims);
    };
    for_each_block(all, {1, false}, nullptr, work);
}

// Derivatives of a loss with respect to f (n), its gradient (n, dims) and the curvature (n) of each
// member; the last two are null if the loss does not depend on them.
struct LossDerivatives {
    const float *v, *u, *b;
};

// The offsets of a block or, unless the slopes are null, offset + slope * value.
INLINE Column affine_values(const float *offsets, const float *slopes, const Column &values,
                            int64_t count) {
    Column offset, slope;
    gather(offsets, count, 1, &offset);
    if (!slopes) return offset;
    gather(slopes, count, 1, &slope);
    return offset + slope * values;
}

// The backward pass of a block from its tape: adds to the sums; see `parameter_vjp`.
static void backward_block(const Network &net, const Tape &tape, int64_t at, int64_t count,
                           bool curvature, const LossDerivatives &derivatives,
                           const LossDerivatives &slopes, const BlockValues &values,
                           const std::vector<GradientSums> &sums) {
    auto at_block = [&](const float *array, int64_t length) {
        return array ? array + at * length : nullptr;
    };
    Column v = affine_values(at_block(derivatives.v, 1), at_block(slopes.v, 1), values.f, count);
    Column b = constant(0.0f);
    if (curvature)
        b = affine_values(at_block(derivatives.b, 1), at_block(slopes.b, 1), values.curvature,
                          count);
    if (derivatives.u) {
        gather(at_block(derivatives.u, net.dims), count, net.dims, tape.second.x);
        if (slopes.u) gather(at_block(slopes.u, net.dims), count, net.dims, tape.p);
        for (int64_t i = 0; slopes.u && i < net.dims; i++)
            tape.second.x[i] = tape.second.x[i] + tape.p[i] * tape.gradient_x[i];
        jvp(net, tape, tape.second, curvature ? &tape.first : nullptr, b);
    }
    parameter_gradient(net, tape, v, curvature, derivatives.u, b, sums);
}

// The gradient of sum_p v[p] f(x[p]) + u[p] . df/dx[p] + b[p] w[p]' (d^2f/dx^2)[p] w[p] with
// respect to the parameters: each matrix followed by its bias. Each thread has its own sums, which
// are added in a fixed order.
//
// `taped` is the tape of `evaluate`; the points are not read again. If it is null, each block goes
// through the forward and the backward pass before the next one, and the outputs are written, too.
// The derivatives are then v + slopes.v f, unless slopes.v is null, and u and b likewise.
static void parameter_vjp(const Networks &all, const float *x, const float *w,
                          const LossDerivatives &derivatives, const LossDerivatives &slopes,
                          const float *taped, float *gradient, const Outputs &outputs) {
    int64_t n = all.n, blocks = n_blocks(n);
    int threads = n_threads(blocks, all.threads);
    TapeSpec spec = {w ? 2 : derivatives.u ? 1 : 0, true};
    Lengths lengths = tape_lengths(all.first, spec);
    int64_t share = (blocks + threads - 1) / threads * POINTS;  // points of each thread
    int64_t n_sums = sums_length(all.first);
    int64_t per_thread = n_sums + lengths.other + (taped ? 0 : lengths.taped);
    Column *memory = thread_buffer.reserve(threads * per_thread);
    std::vector<std::vector<GradientSums>> thread_sums;
    for (int t = 0; t < threads; t++)
        thread_sums.push_back(place_sums(all.first, memory + t * per_thread));
    for (int64_t i = 0; i < all.members; i++) {
        MemberNetwork member(all.first, i);
        const Network &net = member.net;
        Column *member_tape = (Column *)taped + i * blocks * lengths.taped;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int t = 0; t < threads; t++) {
            Column *start = memory + t * per_thread, *scratch = start + n_sums;
            std::memset((void *)start, 0, n_sums * sizeof(Column));
            for (int64_t p = t * share; p < n && p < (t + 1) * share; p += POINTS) {
                int64_t count = n - p < POINTS ? n - p : POINTS, at = i * n + p;
                Column *block_tape =
                    taped ? member_tape + p / POINTS * lengths.taped : scratch + lengths.other;
                Tape tape = place_tape(net, spec, block_tape, scratch);
                BlockValues values = {constant(0.0f), constant(0.0f)};
                if (!taped) values = forward_block(net, tape, at, count, x, w, outputs);
                backward_block(net, tape, at, count, w, derivatives, slopes, values,
                               thread_sums[t]);
            }
        }
        for (int t = 1; t < threads; t++)
            for (int64_t j = 0; j < n_sums; j++) memory[j] = memory[j] + memory[t * per_thread + j];
        for (const GradientSums &sums : thread_sums[0]) gradient = write_sums(sums, gradient);
    }
}
