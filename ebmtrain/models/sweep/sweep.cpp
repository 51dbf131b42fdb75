// Gibbs sweeps of chains of categorical states, for ops.py. Plain arrays, without torch.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t CHAINS = 4;  // at a time: their sums do not wait for each other

template <typename T>
constexpr int64_t LANES = 32 / sizeof(T);  // weights of states are padded to a multiple of it

template <typename T>
using Lanes [[gnu::vector_size(32)]] = T;

// The state whose share of the cumulative weights exp(h) holds u in [0, 1).
template <typename T>
int64_t choose(const T *h, int64_t states, T u, T *weight) {
    T largest = *std::max_element(h, h + states), total = 0;
    for (int64_t a = 0; a < states; a++) total += weight[a] = std::exp(h[a] - largest);
    T rest = u * total;
    for (int64_t a = 0; a < states - 1; a++)
        if ((rest -= weight[a]) < 0) return a;
    return states - 1;
}

template <typename T, int64_t BLOCKS, int64_t n>
void sweep_chains(int64_t sites, int64_t states, T *x, const T *uniform, const T *couplings,
                  const T *fields) {
    constexpr int64_t WIDTH = BLOCKS * LANES<T>;
    std::vector<int64_t> offset(n * sites);  // of the row of each site's state
    for (int64_t k = 0; k < n * sites; k++)
        offset[k] = ((k % sites) * states + static_cast<int64_t>(x[k])) * WIDTH;
    T weight[WIDTH];
    for (int64_t i = 0; i < sites; i++) {
        const T *rows = couplings + i * sites * states * WIDTH;
        Lanes<T> h[n][BLOCKS];
        for (int64_t c = 0; c < n; c++) std::memcpy(h[c], fields + i * WIDTH, sizeof h[c]);
        for (int64_t j = 0; j < sites; j++)
            for (int64_t c = 0; c < n; c++)
                for (int64_t b = 0; b < BLOCKS; b++) {
                    Lanes<T> row;
                    std::memcpy(&row, rows + offset[c * sites + j] + b * LANES<T>, sizeof row);
                    h[c][b] += row;
                }
        for (int64_t c = 0; c < n; c++) {
            T logits[WIDTH];
            std::memcpy(logits, h[c], sizeof logits);
            int64_t state = choose(logits, states, uniform[c * sites + i], weight);
            x[c * sites + i] = static_cast<T>(state);
            offset[c * sites + i] = (i * states + state) * WIDTH;
        }
    }
}

// The rows of `states` numbers, padded with zeros to `width`.
template <typename T>
std::vector<T> padded(const T *values, int64_t rows, int64_t states, int64_t width) {
    std::vector<T> result(rows * width, 0);
    for (int64_t row = 0; row < rows; row++)
        std::copy_n(values + row * states, states, result.begin() + row * width);
    return result;
}

template <typename T>
int sweep(int64_t threads, int64_t n, int64_t sites, int64_t states, T *x, const T *uniform,
          const T *couplings, const T *fields) {
    using Function = void (*)(int64_t, int64_t, T *, const T *, const T *, const T *);
    const Function several[] = {sweep_chains<T, 1, CHAINS>, sweep_chains<T, 2, CHAINS>,
                                sweep_chains<T, 3, CHAINS>, sweep_chains<T, 4, CHAINS>};
    const Function one[] = {sweep_chains<T, 1, 1>, sweep_chains<T, 2, 1>, sweep_chains<T, 3, 1>,
                            sweep_chains<T, 4, 1>};
    int64_t blocks = (states + LANES<T> - 1) / LANES<T>;
    if (blocks > 4) return 1;
    auto wide = padded(couplings, sites * sites * states, states, blocks * LANES<T>);
    auto first = padded(fields, sites, states, blocks * LANES<T>);
#pragma omp parallel for num_threads(threads)
    for (int64_t begin = 0; begin < n; begin += CHAINS) {
        bool whole = begin + CHAINS <= n;
        for (int64_t c = begin; c < std::min(begin + CHAINS, n); c += whole ? CHAINS : 1)
            (whole ? several : one)[blocks - 1](sites, states, x + c * sites, uniform + c * sites,
                                                wide.data(), first.data());
    }
    return 0;
}

}  // namespace

// One sweep of n chains, in place: x_i is drawn with weights exp(fields[i][a] + sum_j
// couplings[i][j][x_j][a]), for each site i in turn, by uniform[chain][i]. Returns 0, or 1 if there
// are too many states.
extern "C" int sweep_float(int64_t threads, int64_t n, int64_t sites, int64_t states, float *x,
                           const float *uniform, const float *couplings, const float *fields) {
    return sweep(threads, n, sites, states, x, uniform, couplings, fields);
}

extern "C" int sweep_double(int64_t threads, int64_t n, int64_t sites, int64_t states, double *x,
                            const double *uniform, const double *couplings, const double *fields) {
    return sweep(threads, n, sites, states, x, uniform, couplings, fields);
}
