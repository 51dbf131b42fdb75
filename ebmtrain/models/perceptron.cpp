// A perceptron of many points, with the gradient of its output with respect to its inputs.
//
// Points lie side by side in the lanes of a vector register and do not know of each other: a block
// of them goes through all layers, there and back, before the next one comes, so that what lies
// between the layers stays in the cache. Layers of any size are products of a matrix, whose weights
// are taken one by one, and of such columns of points. Called by perceptron.py.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int REGISTERS = 2;               // of points: each weight is fetched once for both
constexpr int ROWS = LANES == 16 ? 8 : 4;  // of a matrix, whose sums stay in registers
constexpr int POINTS = LANES * REGISTERS;  // of a block

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

struct Column {  // the same number of each point of a block
    Lanes part[REGISTERS];
};

enum Activation { LEAKY_RELU, SILU };

struct Network {
    int64_t dims, n_frequencies;   // what a point has; rows of the random frequencies
    const int64_t *sizes;          // features, then the units of each hidden layer
    int depth;                     // hidden layers
    int activation;
    float scale;                   // of the inputs
    const float *const *matrices;  // depth + 1 of (outputs, inputs), the last of one row; then the
    const float *const *biases;    // frequencies, (n_frequencies, dims)
};

#define INLINE static inline __attribute__((always_inline))

INLINE Lanes all(float value) { return Lanes{} + value; }

// out[i] = bias[i] + sum_k w[i * down + k * along] * in[k], for N successive i.
template <int N>
INLINE void rows(const float *w, int64_t down, int64_t along, const float *bias, const Column *in,
                 Column *out, int64_t n) {
    Column sum[N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < REGISTERS; j++) sum[i].part[j] = all(bias ? bias[i] : 0.0f);
    for (int64_t k = 0; k < n; k++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < REGISTERS; j++)
                sum[i].part[j] += w[i * down + k * along] * in[k].part[j];
    for (int i = 0; i < N; i++) out[i] = sum[i];
}

INLINE void product(const float *w, int64_t down, int64_t along, const float *bias,
                    const Column *in, Column *out, int64_t m, int64_t n) {
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS)
        rows<ROWS>(w + i * down, down, along, bias ? bias + i : nullptr, in, out + i, n);
    for (; i < m; i++)
        rows<1>(w + i * down, down, along, bias ? bias + i : nullptr, in, out + i, n);
}

// e^x to two units of the last place, between the least and the largest normal number: x is taken
// apart into n log 2 + r, |r| <= log(2) / 2, and e^r is a polynomial (Cephes, expf).
INLINE Lanes exponential(Lanes x) {
    x = x < -87.0f ? all(-87.0f) : x;
    x = x > 88.0f ? all(88.0f) : x;
    Lanes n = x * 1.44269504f + 12582912.0f - 12582912.0f;  // + 1.5 * 2^23 rounds
    Lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;     // log 2 in two parts
    Lanes y = all(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return (Lanes)((Integers)y + (__builtin_convertvector(n, Integers) << 23));
}

// The cosine and sine of x up to some 10^5, to two units of the last place of 1: x is taken apart
// into n pi / 2 + r, |r| <= pi / 4, of which both are polynomials (Cephes, sinf and cosf).
INLINE void circle(Lanes x, Lanes *cosine, Lanes *sine) {
    Lanes n = x * 0.63661977f + 12582912.0f - 12582912.0f;
    Lanes r = x - n * 1.5703125f - n * 4.83751297e-4f - n * 7.54978995e-8f;  // pi / 2 in parts
    r = r < -0.8f ? all(-0.8f) : r;  // of an x beyond all bounds
    r = r > 0.8f ? all(0.8f) : r;
    Lanes rr = r * r;
    Lanes s = ((-1.9515295891e-4f * rr + 8.3321608736e-3f) * rr - 1.6666654611e-1f) * rr * r + r;
    Lanes c = ((2.443315711809948e-5f * rr - 1.388731625493765e-3f) * rr + 4.166664568298827e-2f) *
                  rr * rr - 0.5f * rr + 1.0f;
    Integers quarter = __builtin_convertvector(n, Integers);
    Integers odd = (quarter & 1) != 0;
    Integers sign_of_sine = (quarter & 2) << 30, sign_of_cosine = ((quarter + 1) & 2) << 30;
    *sine = (Lanes)((Integers)(odd ? c : s) ^ sign_of_sine);
    *cosine = (Lanes)((Integers)(odd ? s : c) ^ sign_of_cosine);
}

// z -> f(z), and f'(z) beside it.
INLINE void activate(int activation, Column *units, Column *slopes, int64_t m) {
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

INLINE void multiply(Column *units, const Column *slopes, int64_t m) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < REGISTERS; j++) units[i].part[j] *= slopes[i].part[j];
}

// Points (n, dims) of memory into columns and back.
INLINE void gather(const float *x, int64_t count, int64_t dims, Column *columns) {
    std::memset(columns, 0, dims * sizeof(Column));  // lanes without a point
    for (int64_t p = 0; p < count; p++)
        for (int64_t i = 0; i < dims; i++) ((float *)(columns + i))[p] = x[p * dims + i];
}

INLINE void scatter(const Column *columns, int64_t count, int64_t dims, float *x) {
    for (int64_t p = 0; p < count; p++)
        for (int64_t i = 0; i < dims; i++) x[p * dims + i] = ((const float *)(columns + i))[p];
}

// x -> [scale * x, cos(W x), sin(W x)]
static void embed(const Network &net, const Column *x, Column *features) {
    int64_t d = net.dims, m = net.n_frequencies;
    for (int64_t i = 0; i < d; i++)
        for (int j = 0; j < REGISTERS; j++) features[i].part[j] = net.scale * x[i].part[j];
    Column *cosines = features + d, *sines = cosines + m;
    product(net.matrices[net.depth + 1], d, 1, nullptr, x, sines, m, d);
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
    product(net.matrices[net.depth + 1], 1, d, nullptr, of_phases, gradient, d, m);
    for (int64_t i = 0; i < d; i++)
        for (int j = 0; j < REGISTERS; j++)
            gradient[i].part[j] += net.scale * of_features[i].part[j];
}

struct Scratch {
    Column *x, *features, *one, *other, *slopes;
};

static void block(const Network &net, const float *x, int64_t count, float *f, float *gradient,
                  const Scratch &scratch) {
    const int64_t *sizes = net.sizes, last = sizes[net.depth];
    const float *const *w = net.matrices;
    gather(x, count, net.dims, scratch.x);
    embed(net, scratch.x, scratch.features);

    const Column *below = scratch.features;
    Column *units = scratch.one, *free = scratch.other, *slopes = scratch.slopes;
    for (int l = 0; l < net.depth; l++) {
        product(w[l], sizes[l], 1, net.biases[l], below, units, sizes[l + 1], sizes[l]);
        activate(net.activation, units, slopes, sizes[l + 1]);
        slopes += sizes[l + 1];
        below = units;
        std::swap(units, free);
    }
    Column output;
    product(w[net.depth], last, 1, net.biases[net.depth], below, &output, 1, last);
    std::memcpy(f, &output, count * sizeof(float));

    for (int64_t i = 0; i < last; i++)
        for (int j = 0; j < REGISTERS; j++) units[i].part[j] = all(w[net.depth][i]);
    for (int l = net.depth - 1; l >= 0; l--) {
        slopes -= sizes[l + 1];
        multiply(units, slopes, sizes[l + 1]);
        product(w[l], 1, sizes[l], nullptr, units, free, sizes[l], sizes[l + 1]);
        std::swap(units, free);
    }
    pull_back(net, scratch.features, units, scratch.x);
    scatter(scratch.x, count, net.dims, gradient);
}

// f(x) and df/dx of n points for each of several networks of the same sizes, whose weights, points
// and results follow one another in memory. Returns 0, or 1 where there is no memory left.
extern "C" int perceptron(int64_t members, int64_t n, int64_t dims, int64_t n_frequencies,
                          int depth, const int64_t *sizes, const float *const *matrices,
                          const float *const *biases, float scale, int activation, const float *x,
                          float *f, float *gradient, int threads) {
    int64_t widest = 0, hidden = 0, blocks = (n + POINTS - 1) / POINTS;
    for (int l = 0; l <= depth; l++) {
        widest = sizes[l] > widest ? sizes[l] : widest;
        hidden += l ? sizes[l] : 0;
    }
    int64_t columns = dims + sizes[0] + 2 * widest + hidden;
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
    {
        Column *memory = (Column *)std::aligned_alloc(sizeof(Column), columns * sizeof(Column));
        const float **own = (const float **)std::malloc((2 * depth + 3) * sizeof(float *));
        failed |= !memory || !own;
        Column *one = memory + dims + sizes[0];
        Scratch scratch{memory, memory + dims, one, one + widest, one + 2 * widest};
#pragma omp for
        for (int64_t place = 0; place < members * blocks; place++) {
            if (failed) continue;
            int64_t member = place / blocks, first = place % blocks * POINTS;
            int64_t count = n - first < POINTS ? n - first : POINTS, at = member * n + first;
            for (int l = 0; l <= depth; l++) {
                int64_t units = l < depth ? sizes[l + 1] : 1;
                own[l] = matrices[l] + member * units * sizes[l];
                own[depth + 2 + l] = biases[l] + member * units;
            }
            own[depth + 1] = matrices[depth + 1] + member * n_frequencies * dims;
            Network net{dims,       n_frequencies, sizes, depth,
                        activation, scale,         own,   own + depth + 2};
            block(net, x + at * dims, count, f + at, gradient + at * dims, scratch);
        }
        std::free(own);
        std::free(memory);
    }
    return failed;
}
