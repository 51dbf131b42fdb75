// Points side by side in the lanes of vector registers, and what perceptron.h does with them.

#pragma once

#include <cstdint>
#include <cstring>

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

#define INLINE static inline __attribute__((always_inline))

INLINE Lanes all(float value) { return Lanes{} + value; }

INLINE Column constant(float value) {
    Column result;
    for (int j = 0; j < REGISTERS; j++) result.part[j] = all(value);
    return result;
}

INLINE Column operator+(const Column &a, const Column &b) {
    Column result;
    for (int j = 0; j < REGISTERS; j++) result.part[j] = a.part[j] + b.part[j];
    return result;
}

INLINE Column operator-(const Column &a, const Column &b) {
    Column result;
    for (int j = 0; j < REGISTERS; j++) result.part[j] = a.part[j] - b.part[j];
    return result;
}

INLINE Column operator*(const Column &a, const Column &b) {
    Column result;
    for (int j = 0; j < REGISTERS; j++) result.part[j] = a.part[j] * b.part[j];
    return result;
}

INLINE Column operator*(float a, const Column &b) {
    Column result;
    for (int j = 0; j < REGISTERS; j++) result.part[j] = a * b.part[j];
    return result;
}

INLINE float *floats(Column *columns) { return (float *)columns; }

INLINE const float *floats(const Column *columns) { return (const float *)columns; }

// out[i * step] = bias[i] + sum_k w[i * down + k * along] * in[k], for N successive i. Without a
// bias the sum is added to what is there, where `more`.
template <int N>
INLINE void rows(const float *w, int64_t down, int64_t along, const float *bias, bool more,
                 const Column *in, int64_t n, Column *out, int64_t step) {
    Column sum[N];
    for (int i = 0; i < N; i++) sum[i] = more ? out[i * step] : constant(bias ? bias[i] : 0.0f);
    for (int64_t k = 0; k < n; k++)
        for (int i = 0; i < N; i++) sum[i] = sum[i] + w[i * down + k * along] * in[k];
    for (int i = 0; i < N; i++) out[i * step] = sum[i];
}

// The same for a single i, in four sums, for each waits for the one before it.
INLINE void row(const float *w, int64_t along, const float *bias, bool more, const Column *in,
                int64_t n, Column *out) {
    Column sum[4] = {more ? *out : constant(bias ? *bias : 0.0f)};
    for (int i = 1; i < 4; i++) sum[i] = constant(0.0f);
    int64_t k = 0;
    for (; k + 4 <= n; k += 4)
        for (int i = 0; i < 4; i++) sum[i] = sum[i] + w[(k + i) * along] * in[k + i];
    for (; k < n; k++) sum[0] = sum[0] + w[k * along] * in[k];
    *out = (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// The same for m successive i.
INLINE void product(const float *w, int64_t down, int64_t along, const float *bias, bool more,
                    const Column *in, int64_t n, Column *out, int64_t step, int64_t m) {
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS)
        rows<ROWS>(w + i * down, down, along, bias ? bias + i : nullptr, more, in, n,
                   out + i * step, step);
    for (; i < m; i++)
        row(w + i * down, along, bias ? bias + i : nullptr, more, in, n, out + i * step);
}

// in -> W in + bias, W (m, n); and in -> W' in.
INLINE void times(const float *w, const float *bias, const Column *in, int64_t n, Column *out,
                  int64_t m) {
    product(w, n, 1, bias, false, in, n, out, 1, m);
}

INLINE void times_transposed(const float *w, const Column *in, int64_t m, Column *out, int64_t n) {
    product(w, 1, n, nullptr, false, in, m, out, 1, n);
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

// Points (count, dims) of memory into columns and back.
INLINE void gather(const float *x, int64_t count, int64_t dims, Column *columns) {
    std::memset((void *)columns, 0, dims * sizeof(Column));  // lanes without a point
    for (int64_t p = 0; p < count; p++)
        for (int64_t i = 0; i < dims; i++) floats(columns + i)[p] = x[p * dims + i];
}

INLINE void scatter(const Column *columns, int64_t count, int64_t dims, float *x) {
    for (int64_t p = 0; p < count; p++)
        for (int64_t i = 0; i < dims; i++) x[p * dims + i] = floats(columns + i)[p];
}
