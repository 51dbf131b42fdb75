// The perceptron of mlp.py, its gradient and curvature with respect to points, the gradients of all
// of these with respect to its weights, and steps of chains on it.
//
// Points do not know of each other: a block of them, side by side in the lanes of vector registers,
// goes through all layers, there and back, before the next one comes, so that what lies between the
// layers stays in the cache. Called by perceptron.cpp.

#pragma once

#include <cstdlib>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "chains.h"
#include "layers.h"

// Sums over points, of the gradient with respect to a matrix (m, n) and its bias. Where the matrix
// is small, each lane has a sum of its own until the end; else a column holds POINTS of its n.
struct Sums {
    int64_t m, n;
    bool spread;
    int64_t columns;  // of a row of the matrix
    Column *weights, *biases;
};

INLINE Sums sums_of(int64_t m, int64_t n) {
    bool spread = m == 1 || n <= 4;
    return {m, n, spread, spread ? n : (n + POINTS - 1) / POINTS, nullptr, nullptr};
}

static void add_bias(const Sums &sums, const Column *of_units) {
    for (int64_t i = 0; i < sums.m; i++) sums.biases[i] = sums.biases[i] + of_units[i];
}

static void add(const Sums &sums, const Column *of_units, const Column *below) {
    if (sums.spread) {
        for (int64_t i = 0; i < sums.m; i++)
            for (int64_t k = 0; k < sums.n; k++) {
                Column &sum = sums.weights[i * sums.n + k];
                sum = sum + of_units[i] * below[k];
            }
        return;
    }
    for (int64_t c = 0; c < sums.columns; c++) {
        Column turned[POINTS];  // a column for each point, of POINTS numbers of it
        int64_t rest = sums.n - c * POINTS, here = rest < POINTS ? rest : POINTS;
        // Lanes beyond `here` go into no result; they are filled to be of defined content.
        if (here < POINTS) std::memset((void *)turned, 0, sizeof(turned));
        for (int64_t k = 0; k < here; k++)
            for (int64_t p = 0; p < POINTS; p++)
                floats(turned + p)[k] = floats(below + c * POINTS + k)[p];
        product(floats(of_units), POINTS, 1, nullptr, true, turned, POINTS, sums.weights + c,
                sums.columns, sums.m);
    }
}

INLINE float total(const Column &column) {
    float sum = 0.0f;
    for (int p = 0; p < POINTS; p++) sum += floats(&column)[p];
    return sum;
}

// The sums as (m, n) numbers and m more after them; returns where they end.
static float *poured(const Sums &sums, float *to) {
    for (int64_t i = 0; i < sums.m; i++, to += sums.n) {
        const Column *row = sums.weights + i * sums.columns;
        if (sums.spread)
            for (int64_t k = 0; k < sums.n; k++) to[k] = total(row[k]);
        else
            std::memcpy(to, row, sums.n * sizeof(float));
    }
    for (int64_t i = 0; i < sums.m; i++) *to++ = total(sums.biases[i]);
    return to;
}

// Of sum_p v[p] f(x[p]); and, where there is one, + f's second derivative as `along` left it after
// `gradient_of_points`, in which squares of the first one, where there is one, count b times.
static void gradient_of_weights(const Network &net, const Tape &tape, const Column &v, bool first,
                                bool second, const Column &b, const std::vector<Sums> &sums) {
    const Column one = constant(1.0f), zero = constant(0.0f);
    const Column *of_z = &v, *of_z1 = &zero, *of_z2 = &one;  // with respect to z, z' and z''
    Column *now = tape.one, *next = tape.other;              // with respect to h, then z
    Column *now1 = tape.first.one, *next1 = tape.first.other;
    int64_t at = hidden(net);
    for (int64_t l = net.depth; l >= 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        at -= l ? n : 0;  // of the layer below
        add_bias(sums[l], of_z);
        add(sums[l], of_z, l ? tape.units + at : tape.features);
        if (first) add(sums[l], of_z1, l ? tape.first.units + at : tape.first.features);
        if (second) add(sums[l], of_z2, l ? tape.second.units + at : tape.second.features);
        if (!l) return;
        times_transposed(net.weights[l], of_z, m, now, n);
        for (int64_t i = 0; i < n; i++) now[i] = now[i] * tape.slopes[at + i];
        const Column *of_h2 = tape.of_units + at;
        if (second)
            for (int64_t i = 0; i < n; i++)
                now[i] = now[i] + of_h2[i] * tape.curves[at + i] * tape.second.z[at + i];
        if (first) {  // of h'' = b f''(z) z'^2 + f'(z) z'' and h' = f'(z) z'
            times_transposed(net.weights[l], of_z1, m, now1, n);
            for (int64_t i = 0; i < n; i++) {
                Column z1 = tape.first.z[at + i], curve = tape.curves[at + i] * z1;
                Column of_square = b * of_h2[i];
                now[i] = now[i] + now1[i] * curve + of_square * tape.bends[at + i] * z1 * z1;
                now1[i] = now1[i] * tape.slopes[at + i] + 2.0f * of_square * curve;
            }
        }
        Column *now2 = tape.second.one;
        for (int64_t i = 0; second && i < n; i++) now2[i] = of_h2[i] * tape.slopes[at + i];
        of_z = now;
        of_z1 = now1;
        of_z2 = now2;
        std::swap(now, next);
        std::swap(now1, next1);
    }
}

static int64_t widest(const Network &net) {
    int64_t most = 1;
    for (int64_t l = 0; l <= net.depth; l++) most = net.sizes[l] > most ? net.sizes[l] : most;
    return most;
}

// How many derivatives with respect to points there are to be, up to two, and whether all that is
// to be differentiated by the weights.
struct Wanted {
    int order;
    bool again;
};

// Columns of a tape: of what the way there leaves for the one back, and of all else.
struct Lengths {
    int64_t kept, other;
};

// Where the parts of a tape begin in two pieces of memory, and, from nothing, how long these are.
static Tape tape_in(const Network &net, Wanted wanted, Column *kept, Column *other,
                    Lengths *lengths = nullptr) {
    Lengths at = {0, 0};
    int64_t all_units = hidden(net), most = widest(net);
    auto take = [](Column *memory, int64_t &at, int64_t n, bool needed) {
        Column *begin = needed && memory ? memory + at : nullptr;
        at += needed ? n : 0;
        return begin;
    };
    auto keep = [&](int64_t n, bool needed = true) { return take(kept, at.kept, n, needed); };
    auto use = [&](int64_t n, bool needed = true) { return take(other, at.other, n, needed); };
    auto derivative = [&](auto next, bool needed) {
        Along found;
        found.x = next(net.dims, needed);
        found.phases = next(net.n_frequencies, needed);
        found.features = next(net.sizes[0], needed);
        found.units = next(all_units, needed);
        found.z = next(all_units, needed);
        found.one = use(most, needed && wanted.again);
        return found;
    };
    bool gradient = wanted.order > 0, curvature = wanted.order > 1;
    Tape tape;
    tape.x = use(net.dims);
    tape.of_x = use(net.dims);
    tape.p = use(net.dims);
    tape.one = use(most);
    tape.other = use(most);
    tape.features = keep(net.sizes[0]);
    tape.units = keep(all_units);
    tape.slopes = keep(all_units);
    tape.of_units = keep(all_units, gradient);
    tape.curves = keep(all_units, curvature || (gradient && wanted.again));
    tape.bends = keep(all_units, curvature && wanted.again);
    tape.first = derivative(keep, curvature);
    tape.first.other = use(most, curvature && wanted.again);
    tape.second = derivative(use, gradient && wanted.again);
    if (lengths) *lengths = at;
    return tape;
}

static Lengths lengths_of(const Network &net, Wanted wanted) {
    Lengths lengths;
    tape_in(net, wanted, nullptr, nullptr, &lengths);
    return lengths;
}

static std::vector<Sums> sums_in(const Network &net, Column *memory) {
    std::vector<Sums> found;
    for (int64_t l = 0; l <= net.depth; l++) {
        Sums sums = sums_of(net.sizes[l + 1], net.sizes[l]);
        sums.weights = memory;
        sums.biases = memory + sums.m * sums.columns;
        memory = sums.biases + sums.m;
        found.push_back(sums);
    }
    return found;
}

static int64_t length_of_sums(const Network &net) {
    int64_t sum = 0;
    for (const Sums &sums : sums_in(net, nullptr)) sum += sums.m * (sums.columns + 1);
    return sum;
}

static int64_t blocks_of(int64_t n) { return (n + POINTS - 1) / POINTS; }

// No more than have a block to work at: the others would be waited for.
static int busy(int64_t blocks, int threads) {
    return blocks < threads ? (blocks > 1 ? blocks : 1) : threads;
}

INLINE int this_thread() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// Of the calling thread, until it ends: new memory at each call would be cleared page by page.
struct Memory {
    Column *columns = nullptr;
    int64_t length = 0;

    // At least n columns, of any content.
    Column *at_least(int64_t n) {
        if (n > length) {
            std::free(columns);
            columns = (Column *)std::aligned_alloc(sizeof(Column), n * sizeof(Column));
            length = columns ? n : 0;
            if (!columns) throw std::bad_alloc();
        }
        return columns;
    }

    ~Memory() { std::free(columns); }
};

static thread_local Memory memory_of_thread;

// Several networks of the same sizes, whose weights follow one another in memory, as their points,
// results and gradients do; and the threads to use.
struct Networks {
    Network first;
    int64_t members, n;  // points of each
    int threads;
};

// One of them.
struct Member {
    std::vector<const float *> weights, biases;
    Network net;

    Member(const Network &first, int64_t i) : net(first) {
        for (int64_t l = 0; l <= first.depth; l++) {
            weights.push_back(first.weights[l] + i * first.sizes[l + 1] * first.sizes[l]);
            biases.push_back(first.biases[l] + i * first.sizes[l + 1]);
        }
        net.weights = weights.data();
        net.biases = biases.data();
        net.frequencies += i * first.n_frequencies * first.dims;
    }
};

static std::vector<Member> members_of(const Networks &all) {
    std::vector<Member> found;
    found.reserve(all.members);
    for (int64_t i = 0; i < all.members; i++) found.emplace_back(all.first, i);
    return found;
}

// Does `work` for each block of points of each member: it is given the network, a tape, where the
// block begins among the points of all members, and how many points it has. What the way there
// leaves is kept of each block where there is memory for that. Whichever thread is free takes the
// next block, for two cores are seldom equally fast.
template <class Work>
static void for_blocks(const Networks &all, Wanted wanted, Column *kept, Work work) {
    int64_t n = all.n, blocks = blocks_of(n), count = all.members * blocks;
    int threads = busy(count, all.threads);
    Lengths lengths = lengths_of(all.first, wanted);
    int64_t each = lengths.other + (kept ? 0 : lengths.kept);
    Column *memory = memory_of_thread.at_least(threads * each);
    const std::vector<Member> members = members_of(all);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (int64_t j = 0; j < count; j++) {
        int64_t i = j / blocks, p = j % blocks * POINTS;
        const Network &net = members[i].net;
        Column *own = memory + this_thread() * each;
        Column *there = kept ? kept + j * lengths.kept : own + lengths.other;
        Tape tape = tape_in(net, wanted, there, own);
        work(net, tape, i * n + p, n - p < POINTS ? n - p : POINTS);
    }
}

// How many numbers the way there leaves of n points.
static int64_t numbers_kept(const Network &net, int64_t n, int order) {
    return blocks_of(n) * lengths_of(net, {order, true}).kept * POINTS;
}

// Of points x (n, dims) of each member: f (n), its gradient (n, dims) with respect to x, and the
// curvature w' (d^2f/dx^2) w (n) along directions w (n, dims). Each may be null, but for the first.
struct Found {
    float *f, *gradient, *curvature;
};

// What is found of the `count` points of a block that begins `at` one of them; it stays in the tape,
// f and the curvature as columns.
struct There {
    Column f, curvature;
};

static There go_there(const Network &net, const Tape &tape, int64_t at, int64_t count,
                      const float *x, const float *w, const Found &found) {
    There there = {constant(0.0f), constant(0.0f)};
    gather(x + at * net.dims, count, net.dims, tape.x);
    there.f = output(net, tape);
    std::memcpy(found.f + at, &there.f, count * sizeof(float));
    if (!found.gradient) return there;
    if (w) {
        gather(w + at * net.dims, count, net.dims, tape.first.x);
        along(net, tape, tape.first);
    }
    there.curvature = gradient_of_points(net, tape, w);
    scatter(tape.of_x, count, net.dims, found.gradient + at * net.dims);
    if (w) std::memcpy(found.curvature + at, &there.curvature, count * sizeof(float));
    return there;
}

// All that is found of points x, and of directions w where not null. What `differentiate` needs of
// it goes to `kept`, where not null: see `numbers_kept`.
static void evaluate(const Networks &all, const float *x, const float *w, const Found &found,
                     float *kept) {
    auto work = [&](const Network &net, const Tape &tape, int64_t at, int64_t count) {
        go_there(net, tape, at, count, x, w, found);
    };
    for_blocks(all, {w ? 2 : found.gradient ? 1 : 0, kept != nullptr}, (Column *)kept, work);
}

// k Langevin steps of each point from x (n, dims) to the ends, by noise (k, n, dims) of each
// member; see `langevin`.
static void langevin_chains(const Networks &all, const float *x, const float *noise,
                            const float *sizes, const float *scales, float *ends, float precision,
                            int64_t k) {
    int64_t n = all.n;
    auto work = [=](const Network &net, const Tape &tape, int64_t at, int64_t count) {
        int64_t member = at / n, step = n * net.dims;
        gather(x + at * net.dims, count, net.dims, tape.x);
        langevin(net, tape, count, precision, k, sizes, scales,
                 noise + member * (k - 1) * step + at * net.dims, step);
        scatter(tape.x, count, net.dims, ends + at * net.dims);
    };
    for_blocks(all, {1, false}, nullptr, work);
}

// k leapfrog steps of each point from x, its momentum p and gradient, all (n, dims), with an eps of
// its own (n): into x, p, gradient and f (n); see `leapfrog`.
static void leapfrog_chains(const Networks &all, float *x, float *p, float *gradient,
                            const float *eps, float *f, float precision,
                            float inverse_temperature, int64_t k) {
    auto work = [=](const Network &net, const Tape &tape, int64_t at, int64_t count) {
        Column size;
        gather(eps + at, count, 1, &size);
        gather(x + at * net.dims, count, net.dims, tape.x);
        gather(p + at * net.dims, count, net.dims, tape.p);
        gather(gradient + at * net.dims, count, net.dims, tape.of_x);
        Column found = leapfrog(net, tape, precision, k, size, inverse_temperature);
        std::memcpy(f + at, &found, count * sizeof(float));
        scatter(tape.x, count, net.dims, x + at * net.dims);
        scatter(tape.p, count, net.dims, p + at * net.dims);
        scatter(tape.of_x, count, net.dims, gradient + at * net.dims);
    };
    for_blocks(all, {1, false}, nullptr, work);
}

// Derivatives of a loss with respect to f (n), to its gradient (n, dims) and to the curvature (n)
// of each member; the latter two null where it does not depend on them.
struct OfLoss {
    const float *v, *u, *b;
};

// Numbers of a block; where there are slopes, slope * found + number.
INLINE Column numbers_of(const float *numbers, const float *slopes, const Column &found,
                         int64_t count) {
    Column offset, slope;
    gather(numbers, count, 1, &offset);
    if (!slopes) return offset;
    gather(slopes, count, 1, &slope);
    return offset + slope * found;
}

// From a block of points, of which all is in the tape, to sums over them; see `differentiate`.
static void come_back(const Network &net, const Tape &tape, int64_t at, int64_t count,
                      bool curvature, const OfLoss &of_loss, const OfLoss &slopes,
                      const There &there, const std::vector<Sums> &sums) {
    auto from = [&](const float *numbers, int64_t length) {
        return numbers ? numbers + at * length : nullptr;
    };
    Column v = numbers_of(from(of_loss.v, 1), from(slopes.v, 1), there.f, count);
    Column b = constant(0.0f);
    if (curvature) b = numbers_of(from(of_loss.b, 1), from(slopes.b, 1), there.curvature, count);
    if (of_loss.u) {
        gather(from(of_loss.u, net.dims), count, net.dims, tape.second.x);
        if (slopes.u) gather(from(slopes.u, net.dims), count, net.dims, tape.p);
        for (int64_t i = 0; slopes.u && i < net.dims; i++)
            tape.second.x[i] = tape.second.x[i] + tape.p[i] * tape.of_x[i];
        along(net, tape, tape.second, curvature ? &tape.first : nullptr, b);
    }
    gradient_of_weights(net, tape, v, curvature, of_loss.u, b, sums);
}

// The gradient of sum_p v[p] f(x[p]) + u[p] . df/dx[p] + b[p] w[p]' (d^2f/dx^2)[p] w[p] with
// respect to weights and biases, each matrix followed by its bias. Each thread has sums of its own,
// which are added in the same order every time.
//
// `kept` is what `evaluate` left of the points, which are not looked at again. Where it is null,
// each block of them goes there and back at once, and all is found beside; then v stands for
// v + slope f, where the slopes have a v that is not null, and u and b likewise.
static void differentiate(const Networks &all, const float *x, const float *w,
                          const OfLoss &of_loss, const OfLoss &slopes, const float *kept,
                          float *gradient, const Found &found) {
    int64_t n = all.n, blocks = blocks_of(n);
    int threads = busy(blocks, all.threads);
    Wanted wanted = {w ? 2 : of_loss.u ? 1 : 0, true};
    Lengths lengths = lengths_of(all.first, wanted);
    int64_t part = (blocks + threads - 1) / threads * POINTS;
    int64_t of_sums = length_of_sums(all.first);
    int64_t each = of_sums + lengths.other + (kept ? 0 : lengths.kept);
    Column *memory = memory_of_thread.at_least(threads * each);
    std::vector<std::vector<Sums>> sums_of_thread;
    for (int t = 0; t < threads; t++) sums_of_thread.push_back(sums_in(all.first, memory + t * each));
    for (int64_t i = 0; i < all.members; i++) {
        Member member(all.first, i);
        const Network &net = member.net;
        Column *of_member = (Column *)kept + i * blocks * lengths.kept;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int t = 0; t < threads; t++) {
            Column *own = memory + t * each, *free = own + of_sums;
            std::memset((void *)own, 0, of_sums * sizeof(Column));
            for (int64_t p = t * part; p < n && p < (t + 1) * part; p += POINTS) {
                int64_t count = n - p < POINTS ? n - p : POINTS, at = i * n + p;
                Column *left = kept ? of_member + p / POINTS * lengths.kept : free + lengths.other;
                Tape tape = tape_in(net, wanted, left, free);
                There there = {constant(0.0f), constant(0.0f)};
                if (!kept) there = go_there(net, tape, at, count, x, w, found);
                come_back(net, tape, at, count, w, of_loss, slopes, there, sums_of_thread[t]);
            }
        }
        for (int t = 1; t < threads; t++)
            for (int64_t j = 0; j < of_sums; j++) memory[j] = memory[j] + memory[t * each + j];
        for (const Sums &sums : sums_of_thread[0]) gradient = poured(sums, gradient);
    }
}
