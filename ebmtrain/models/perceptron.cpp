// The perceptron of mlp.py, its gradient with respect to points, and with respect to its weights.
//
// Points do not know of each other: a block of them, side by side in the lanes of vector registers,
// goes through all layers, there and back, before the next one comes, so that what lies between the
// layers stays in the cache. Called by perceptron.py.

#include <cstdlib>
#include <vector>

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

// What a block leaves on its way there.
struct Tape {
    Column *x, *features, *units, *slopes;  // the last two of all hidden layers, one after another
    Column *one, *other;                    // for the way back
};

// z -> f(z), and f'(z) beside it.
INLINE void activate(int64_t activation, Column *units, Column *slopes, int64_t m) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++) {
            Lanes z = units[i].part[j], slope;
            if (activation == SILU) {
                Lanes s = 1.0f / (1.0f + exponential(-z));
                units[i].part[j] = z * s;
                slope = s + z * s * (1.0f - s);
            } else {
                slope = z > 0.0f ? all(1.0f) : all(0.01f);
                units[i].part[j] = z * slope;
            }
            slopes[i].part[j] = slope;
        }
}

// x -> [scale * x, cos(W x), sin(W x)]
static void embed(const Network &net, const Column *x, Column *features) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++)
        for (int j = 0; j < REGISTERS; j++) features[i].part[j] = net.scale * x[i].part[j];
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
        for (int j = 0; j < REGISTERS; j++)
            of_phases[i].part[j] = of_sines[i].part[j] * cosines[i].part[j] -
                                   of_phases[i].part[j] * sines[i].part[j];
    times_transposed(net.frequencies, of_phases, m, gradient, d);
    for (int64_t i = 0; i < d; i++)
        for (int j = 0; j < REGISTERS; j++)
            gradient[i].part[j] += net.scale * of_features[i].part[j];
}

static Column output(const Network &net, const float *x, int64_t count, const Tape &tape) {
    gather(x, count, net.dims, tape.x);
    embed(net, tape.x, tape.features);
    const Column *below = tape.features;
    Column *units = tape.units, *slopes = tape.slopes;
    for (int64_t l = 0; l < net.depth; l++) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        times(net.weights[l], net.biases[l], below, n, units, m);
        activate(net.activation, units, slopes, m);
        below = units;
        units += m;
        slopes += m;
    }
    Column f;
    times(net.weights[net.depth], net.biases[net.depth], below, net.sizes[net.depth], &f, 1);
    return f;
}

// On the way back: the gradient with respect to what the last hidden layer gives, from that with
// respect to the output; and from one layer to the one below.
INLINE void begin_back(const Network &net, const Column &of_output, Column *gradient) {
    for (int64_t i = 0; i < net.sizes[net.depth]; i++)
        for (int j = 0; j < REGISTERS; j++)
            gradient[i].part[j] = net.weights[net.depth][i] * of_output.part[j];
}

INLINE void multiply(Column *units, const Column *slopes, int64_t m) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++) units[i].part[j] *= slopes[i].part[j];
}

static int64_t hidden(const Network &net) {
    int64_t sum = 0;
    for (int64_t l = 1; l <= net.depth; l++) sum += net.sizes[l];
    return sum;
}

static void gradient_of_points(const Network &net, const Tape &tape, int64_t count,
                               float *gradient) {
    Column ones, *now = tape.one, *next = tape.other;
    for (int j = 0; j < REGISTERS; j++) ones.part[j] = all(1.0f);
    begin_back(net, ones, now);
    const Column *slopes = tape.slopes + hidden(net);
    for (int64_t l = net.depth - 1; l >= 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        multiply(now, slopes -= m, m);
        times_transposed(net.weights[l], now, m, next, n);
        Column *done = now;
        now = next;
        next = done;
    }
    pull_back(net, tape.features, now, tape.x);
    scatter(tape.x, count, net.dims, gradient);
}

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

static void add(const Sums &sums, const Column *of_units, const Column *below) {
    for (int64_t i = 0; i < sums.m; i++)
        for (int j = 0; j < REGISTERS; j++) sums.biases[i].part[j] += of_units[i].part[j];
    if (sums.spread) {
        for (int64_t i = 0; i < sums.m; i++)
            for (int64_t k = 0; k < sums.n; k++)
                for (int j = 0; j < REGISTERS; j++)
                    sums.weights[i * sums.n + k].part[j] +=
                        of_units[i].part[j] * below[k].part[j];
        return;
    }
    for (int64_t c = 0; c < sums.columns; c++) {
        Column turned[POINTS];  // a column for each point, of POINTS numbers of it
        int64_t rest = sums.n - c * POINTS, here = rest < POINTS ? rest : POINTS;
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

// The sums as (m, n) numbers and m more after them, added to what is there where `more`; returns
// where they end.
static float *poured(const Sums &sums, float *to, bool more) {
    for (int64_t i = 0; i < sums.m; i++)
        for (int64_t k = 0; k < sums.n; k++, to++)
            *to = (more ? *to : 0.0f) + (sums.spread ? total(sums.weights[i * sums.n + k])
                                                     : floats(sums.weights + i * sums.columns)[k]);
    for (int64_t i = 0; i < sums.m; i++, to++)
        *to = (more ? *to : 0.0f) + total(sums.biases[i]);
    return to;
}

static void gradient_of_weights(const Network &net, const Tape &tape, const Column &of_output,
                                const std::vector<Sums> &sums) {
    Column *now = tape.one, *next = tape.other;
    const Column *end = tape.units + hidden(net), *slopes = tape.slopes + hidden(net);
    const Column *units = end - net.sizes[net.depth];
    add(sums[net.depth], &of_output, net.depth ? units : tape.features);
    begin_back(net, of_output, now);
    for (int64_t l = net.depth - 1; l >= 0; l--) {
        int64_t n = net.sizes[l], m = net.sizes[l + 1];
        multiply(now, slopes -= m, m);
        units = l ? units - n : tape.features;
        add(sums[l], now, units);
        if (l) times_transposed(net.weights[l], now, m, next, n);
        Column *done = now;
        now = next;
        next = done;
    }
}

static int64_t widest(const Network &net) {
    int64_t most = 1;
    for (int64_t l = 0; l <= net.depth; l++) most = net.sizes[l] > most ? net.sizes[l] : most;
    return most;
}

static int64_t length(const Network &net) {
    return net.dims + net.sizes[0] + 2 * hidden(net) + 2 * widest(net);
}

static Tape tape_in(const Network &net, Column *memory) {
    Tape tape;
    tape.x = memory;
    tape.features = tape.x + net.dims;
    tape.units = tape.features + net.sizes[0];
    tape.slopes = tape.units + hidden(net);
    tape.one = tape.slopes + hidden(net);
    tape.other = tape.one + widest(net);
    return tape;
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

static int64_t part_of(int64_t n, int threads) {
    int64_t blocks = (n + POINTS - 1) / POINTS;
    return (blocks + threads - 1) / threads * POINTS;
}

struct Memory {
    Column *columns;

    explicit Memory(int64_t n)
        : columns((Column *)std::aligned_alloc(sizeof(Column), n * sizeof(Column))) {}
    ~Memory() { std::free(columns); }
};

// One of several networks, whose weights follow one another in memory.
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

// Blocks are dealt out to threads in equal parts. Both functions return 0, or 1 where there is no
// memory left. Points, results and gradients of the members follow one another as well.

// For n points x (n, dims) of each member: f (n), and, where not null, its gradient (n, dims) with
// respect to x.
extern "C" int perceptron_points(const Network *first, int64_t members, int64_t n, const float *x,
                                 float *f, float *gradient, int threads) {
    int64_t each = length(*first), part = part_of(n, threads);
    Memory memory(threads * each);
    if (!memory.columns) return 1;
    for (int64_t i = 0; i < members; i++) {
        Member member(*first, i);
        const Network &net = member.net;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int t = 0; t < threads; t++) {
            Tape tape = tape_in(net, memory.columns + t * each);
            for (int64_t p = t * part; p < n && p < (t + 1) * part; p += POINTS) {
                int64_t count = n - p < POINTS ? n - p : POINTS, at = i * n + p;
                Column found = output(net, x + at * net.dims, count, tape);
                std::memcpy(f + at, &found, count * sizeof(float));
                if (gradient) gradient_of_points(net, tape, count, gradient + at * net.dims);
            }
        }
    }
    return 0;
}

// The gradient of sum_p v[p] f(x[p]) with respect to weights and biases, each matrix followed by
// its bias. Each thread has sums of its own, which are added in the same order every time.
extern "C" int perceptron_weights(const Network *first, int64_t members, int64_t n, const float *x,
                                  const float *v, float *gradient, int threads) {
    int64_t part = part_of(n, threads), sums_each = length_of_sums(*first);
    int64_t each = length(*first) + sums_each;
    Memory memory(threads * each);
    if (!memory.columns) return 1;
    for (int64_t i = 0; i < members; i++) {
        Member member(*first, i);
        const Network &net = member.net;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int t = 0; t < threads; t++) {
            Column *own = memory.columns + t * each;
            std::memset((void *)own, 0, sums_each * sizeof(Column));
            std::vector<Sums> sums = sums_in(net, own);
            Tape tape = tape_in(net, own + sums_each);
            for (int64_t p = t * part; p < n && p < (t + 1) * part; p += POINTS) {
                int64_t count = n - p < POINTS ? n - p : POINTS, at = i * n + p;
                Column of_output;
                output(net, x + at * net.dims, count, tape);
                gather(v + at, count, 1, &of_output);
                gradient_of_weights(net, tape, of_output, sums);
            }
        }
        float *end = gradient;
        for (int t = 0; t < threads; t++) {
            end = gradient;
            for (const Sums &sums : sums_in(net, memory.columns + t * each))
                end = poured(sums, end, t > 0);
        }
        gradient = end;
    }
    return 0;
}
