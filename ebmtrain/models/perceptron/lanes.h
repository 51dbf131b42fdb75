// Blocks of points in the lanes of vector registers (SIMD), and the arithmetic of perceptron.h.

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
constexpr int REGISTERS = 2;               // per column: each weight is loaded once for both
constexpr int ROWS = LANES == 16 ? 8 : 4;  // matrix rows whose sums are held in registers
constexpr int POINTS = LANES * REGISTERS;  // points of a block

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t IntLanes __attribute__((vector_size(4 * LANES)));

struct Column {  // one number for each point of a block
    Lanes part[REGISTERS];
};

#define INLINE static inline __attribute__((always_inline))

INLINE Lanes broadcast(float value) { return Lanes{} + value; }

INLINE Column constant(float value) {
    Column result;
    for (int j = 0; j < REGISTERS; j++) result.part[j] = broadcast(value);
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

// out[i * out_stride] = bias[i] + sum_k w[i * row_stride + k * column_stride] * in[k] for N
// successive i. With `accumulate` the sum is added to the previous value instead of the bias.
template <int N>
INLINE void product_rows(const float *w, int64_t row_stride, int64_t column_stride,
                         const float *bias, bool accumulate, const Column *in, int64_t n,
                         Column *out, int64_t out_stride) {
    Column sum[N];
    for (int i = 0; i < N; i++)
        sum[i] = accumulate ? out[i * out_stride] : constant(bias ? bias[i] : 0.0f);
    for (int64_t k = 0; k < n; k++)
        for (int i = 0; i < N; i++) sum[i] = sum[i] + w[i * row_stride + k * column_stride] * in[k];
    for (int i = 0; i < N; i++) out[i * out_stride] = sum[i];
}

// The same for one i, in four partial sums: the additions of one sum depend on each other.
INLINE void product_row(const float *w, int64_t column_stride, const float *bias, bool accumulate,
                        const Column *in, int64_t n, Column *out) {
    Column sum[4] = {accumulate ? *out : constant(bias ? *bias : 0.0f)};
    for (int i = 1; i < 4; i++) sum[i] = constant(0.0f);
    int64_t k = 0;
    for (; k + 4 <= n; k += 4)
        for (int i = 0; i < 4; i++) sum[i] = sum[i] + w[(k + i) * column_stride] * in[k + i];
    for (; k < n; k++) sum[0] = sum[0] + w[k * column_stride] * in[k];
    *out = (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// The same for m successive i.
INLINE void product(const float *w, int64_t row_stride, int64_t column_stride, const float *bias,
                    bool accumulate, const Column *in, int64_t n, Column *out, int64_t out_stride,
                    int64_t m) {
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS)
        product_rows<ROWS>(w + i * row_stride, row_stride, column_stride,
                           bias ? bias + i : nullptr, accumulate, in, n, out + i * out_stride,
                           out_stride);
    for (; i < m; i++)
        product_row(w + i * row_stride, column_stride, bias ? bias + i : nullptr, accumulate, in,
                    n, out + i * out_stride);
}

// out = W in + bias with W (m, n); below, out = W' in.
INLINE void multiply(const float *w, const float *bias, const Column *in, int64_t n, Column *out,
                  int64_t m) {
    product(w, n, 1, bias, false, in, n, out, 1, m);
}

INLINE void multiply_transposed(const float *w, const Column *in, int64_t m, Column *out,
                                int64_t n) {
    product(w, 1, n, nullptr, false, in, m, out, 1, n);
}

// e^x with an error of two units in the last place, clamped to the range of normal numbers. With
// x = n log 2 + r, |r| <= log(2) / 2, e^r is a polynomial (Cephes, expf).
INLINE Lanes exponential(Lanes x) {
    x = x < -87.0f ? broadcast(-87.0f) : x;
    x = x > 88.0f ? broadcast(88.0f) : x;
    Lanes n = x * 1.44269504f + 12582912.0f - 12582912.0f;  // + 1.5 * 2^23 rounds
    Lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;     // log 2 in two parts
    Lanes y = broadcast(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return (Lanes)((IntLanes)y + (__builtin_convertvector(n, IntLanes) << 23));
}

// Cosine and sine of x, for |x| up to about 10^5, with an error of two units in the last place of
// 1. With x = n pi / 2 + r, |r| <= pi / 4, both are polynomials of r (Cephes, sinf and cosf).
INLINE void cos_sin(Lanes x, Lanes *cosine, Lanes *sine) {
    Lanes n = x * 0.63661977f + 12582912.0f - 12582912.0f;
    Lanes r = x - n * 1.5703125f - n * 4.83751297e-4f - n * 7.54978995e-8f;  // pi / 2 in parts
    r = r < -0.8f ? broadcast(-0.8f) : r;  // only for |x| beyond that range
    r = r > 0.8f ? broadcast(0.8f) : r;
    Lanes rr = r * r;
    Lanes s = ((-1.9515295891e-4f * rr + 8.3321608736e-3f) * rr - 1.6666654611e-1f) * rr * r + r;
    Lanes c = ((2.443315711809948e-5f * rr - 1.388731625493765e-3f) * rr + 4.166664568298827e-2f) *
                  rr * rr - 0.5f * rr + 1.0f;
    IntLanes quadrant = __builtin_convertvector(n, IntLanes);
    IntLanes odd = (quadrant & 1) != 0;
    IntLanes sign_of_sine = (quadrant & 2) << 30, sign_of_cosine = ((quadrant + 1) & 2) << 30;
    *sine = (Lanes)((IntLanes)(odd ? c : s) ^ sign_of_sine);
    *cosine = (Lanes)((IntLanes)(odd ? s : c) ^ sign_of_cosine);
}

// Copies points (count, dims) from memory to columns; `scatter` copies them back.
INLINE void gather(const float *x, int64_t count, int64_t dims, Column *columns) {
    std::memset((void *)columns, 0, dims * sizeof(Column));  // lanes without a point are zero
    for (int64_t p = 0; p < count; p++)
        for (int64_t i = 0; i < dims; i++) floats(columns + i)[p] = x[p * dims + i];
}

INLINE void scatter(const Column *columns, int64_t count, int64_t dims, float *x) {
    for (int64_t p = 0; p < count; p++)
        for (int64_t i = 0; i < dims; i++) x[p * dims + i] = floats(columns + i)[p];
}
