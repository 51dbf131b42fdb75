// The operations that perceptron_library.py declares, for tensors of float32 on the CPU. They look
// whether what they are given fits together, and hand addresses of it to perceptron.h.
//
// Written to the part of torch's interface that stays the same from release to release.

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "perceptron.h"
#include "pieces.h"

namespace {

using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;
using Shape = std::vector<int64_t>;
using Floats = std::vector<double>;

constexpr size_t ALIGNMENT = 64;  // of vectors; torch's own tensors begin at such places

Shape shape_of(const Tensor &t) {
    auto sizes = t.sizes();
    return Shape(sizes.begin(), sizes.end());
}

std::string text(const Shape &shape) {
    std::string said = "(";
    for (size_t i = 0; i < shape.size(); i++) said += (i ? ", " : "") + std::to_string(shape[i]);
    return said + (shape.size() == 1 ? ",)" : ")");
}

bool of_float32(const Tensor &t) {
    return t.scalar_type() == torch::headeronly::ScalarType::Float;
}

bool is(const Tensor &t, const Shape &shape) { return of_float32(t) && shape_of(t) == shape; }

// Its numbers one after another, without gaps.
Tensor dense(const Tensor &t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

float *in(const Tensor &t) { return static_cast<float *>(t.data_ptr()); }

float *in(const Maybe &t) { return t ? in(*t) : nullptr; }

std::vector<float> singles(const Floats &doubles) { return {doubles.begin(), doubles.end()}; }

// The network that tensors make up, with the points that it is for: (n, dims) or, as everything
// else of several members, (members, n, dims).
class Given {
    Tensors held;  // while C++ has their addresses
    Shape sizes;
    std::vector<const float *> weights, biases;

    const float *hold(const Tensor &t) {
        held.push_back(dense(t));
        return in(held.back());
    }

   public:
    Tensor x;
    Shape members;  // none, or their number
    Networks all;

    Given(const Tensor &points, double scale, const std::string &activation,
          const Tensor &frequencies, const Tensors &w, const Tensors &b)
        : x(dense(points)) {
        Shape shape = shape_of(x), f = shape_of(frequencies);
        bool fits = (shape.size() == 2 || shape.size() == 3) && of_float32(x) &&
                    f.size() == shape.size() && w.size() == b.size() && !w.empty();
        if (fits) {
            members.assign(shape.begin(), shape.end() - 2);
            int64_t dims = shape.back(), m = f[f.size() - 2];
            fits = is(frequencies, with(m, dims));
            sizes.push_back(dims + 2 * m);
            for (size_t l = 0; fits && l < w.size(); l++) {
                Shape of_layer = shape_of(w[l]);
                fits = of_layer.size() == shape.size();
                if (!fits) break;
                int64_t outputs = of_layer[of_layer.size() - 2];
                fits = is(w[l], with(outputs, sizes.back())) && is(b[l], with(outputs));
                sizes.push_back(outputs);
                weights.push_back(hold(w[l]));
                biases.push_back(hold(b[l]));
            }
            fits = fits && sizes.back() == 1;
        }
        if (!fits) {
            std::string layers;
            for (const Tensor &t : w) layers += (layers.empty() ? "" : ", ") + text(shape_of(t));
            throw std::invalid_argument(
                "points of shape " + text(shape) + " do not fit a perceptron of float32 whose "
                "layers are " + layers + ", with frequencies " + text(f));
        }
        if (activation != "silu" && activation != "leaky_relu")
            throw std::invalid_argument("no activation " + activation + ": silu, leaky_relu");
        int64_t depth = sizes.size() - 2;
        Network first = {shape.back(), f[f.size() - 2], depth, sizes.data(), weights.data(),
                         biases.data(), hold(frequencies), float(scale),
                         activation == "silu" ? SILU : LEAKY_RELU};
        all = {first, members.empty() ? 1 : members[0], shape[shape.size() - 2],
               int(torch::stable::get_num_threads())};
    }

    Given(const Given &) = delete;  // it points into itself

    // A shape with the members in front.
    template <class... Lengths>
    Shape with(Lengths... lengths) const {
        Shape shape = members;
        (shape.push_back(lengths), ...);
        return shape;
    }

    Shape of_points() const { return with(all.n, all.first.dims); }

    Shape of_numbers() const { return with(all.n); }

    Tensor fresh(const Shape &shape) const { return torch::stable::new_empty(x, shape); }

    // For what the way there leaves of the points for the one back.
    Tensor kept(int64_t order) const {
        Shape shape = with(numbers_kept(all.first, all.n, order));
        size_t bytes = sizeof(float);
        for (int64_t length : shape) bytes *= length;
        if (!bytes) return fresh(shape);
        static Pieces &pieces = *new Pieces;  // for good: a tensor may live until the very end
        Shape strides = {shape.back(), 1};
        if (members.empty()) strides.erase(strides.begin());
        return torch::stable::from_blob(
            pieces.take(bytes, ALIGNMENT), shape, strides, x.device(), x.scalar_type(),
            [bytes](void *memory) { pieces.give_back(memory, bytes); });
    }

    // t without gaps.
    Tensor fitting(const char *name, const Tensor &t, const Shape &shape) const {
        if (!is(t, shape))
            throw std::invalid_argument(std::string(name) + " " + text(shape_of(t)) +
                                        (of_float32(t) ? "" : " of another type than float32") +
                                        " does not fit: it has to be " + text(shape));
        return dense(t);
    }

    Maybe fitting(const char *name, const Maybe &t, const Shape &shape) const {
        return t ? Maybe(fitting(name, *t, shape)) : t;
    }

    int64_t parameters() const {
        int64_t sum = 0;
        for (size_t l = 1; l < sizes.size(); l++) sum += sizes[l] * (sizes[l - 1] + 1);
        return sum;
    }
};

// Tensors for what is found of the points, as far as the order goes.
struct Finds {
    Tensor f, gradient, curvature;
    Found found;

    Finds(const Given &given, int64_t order)
        : f(given.fresh(given.of_numbers())),
          gradient(given.fresh(order > 0 ? given.of_points() : given.with(0))),
          curvature(given.fresh(order > 1 ? given.of_numbers() : given.with(0))),
          found{in(f), order > 0 ? in(gradient) : nullptr, order > 1 ? in(curvature) : nullptr} {}
};

std::tuple<Tensor, Tensor, Tensor, Tensor> perceptron(
    const Tensor &x, double scale, const std::string &activation, const Tensor &frequencies,
    const Tensors &weights, const Tensors &biases, const Maybe &w, int64_t order, bool keep) {
    Given given(x, scale, activation, frequencies, weights, biases);
    if (order < 0 || order > 2 || w.has_value() != (order == 2))
        throw std::invalid_argument("directions w belong to order 2, which is the highest, not to " +
                                    std::to_string(order));
    Maybe along = given.fitting("w", w, given.of_points());
    Finds finds(given, order);
    Tensor left = keep ? given.kept(order) : given.fresh(given.with(0));
    evaluate(given.all, in(given.x), in(along), finds.found, keep ? in(left) : nullptr);
    return {finds.f, finds.gradient, finds.curvature, left};
}

// Derivatives of a loss, of which u and b may be none, and the directions w that belong to b.
struct Derivatives {
    Tensor v;
    Maybe u, w, b;
    int64_t order;

    Derivatives(const Given &given, const Tensor &of_f, const Maybe &of_gradient,
                const Maybe &along, const Maybe &of_curvature)
        : v(given.fitting("v", of_f, given.of_numbers())),
          u(given.fitting("u", of_gradient, given.of_points())),
          w(given.fitting("w", along, given.of_points())),
          b(given.fitting("b", of_curvature, given.of_numbers())),
          order(w ? 2 : u ? 1 : 0) {
        if (w.has_value() != b.has_value() || (w && !u))
            throw std::invalid_argument("w and b belong together, and to u");
    }

    OfLoss numbers() const { return {in(v), in(u), in(b)}; }
};

Tensor perceptron_weights(const Tensor &x, double scale, const std::string &activation,
                          const Tensor &frequencies, const Tensors &weights, const Tensors &biases,
                          const Tensor &v, const Maybe &u, const Maybe &w, const Maybe &b,
                          const Tensor &kept) {
    Given given(x, scale, activation, frequencies, weights, biases);
    Derivatives of(given, v, u, w, b);
    int64_t of_kept = numbers_kept(given.all.first, given.all.n, of.order);
    Tensor left = given.fitting("kept", kept, given.with(of_kept));
    if (reinterpret_cast<size_t>(left.data_ptr()) % ALIGNMENT) left = torch::stable::clone(left);
    Tensor flat = given.fresh(given.with(given.parameters()));
    differentiate(given.all, in(given.x), in(of.w), of.numbers(), {}, in(left), in(flat), {});
    return flat;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> perceptron_at_once(
    const Tensor &x, double scale, const std::string &activation, const Tensor &frequencies,
    const Tensors &weights, const Tensors &biases, const Tensor &v, const Maybe &u, const Maybe &w,
    const Maybe &b, const Maybe &slope_of_v, const Maybe &slope_of_u, const Maybe &slope_of_b) {
    Given given(x, scale, activation, frequencies, weights, biases);
    Derivatives of(given, v, u, w, b);
    if ((slope_of_u && !u) || (slope_of_b && !b))
        throw std::invalid_argument("slopes belong to the u and b that have them");
    Maybe of_v = given.fitting("slope_of_v", slope_of_v, given.of_numbers());
    Maybe of_u = given.fitting("slope_of_u", slope_of_u, given.of_points());
    Maybe of_b = given.fitting("slope_of_b", slope_of_b, given.of_numbers());
    Finds finds(given, of.order);
    Tensor flat = given.fresh(given.with(given.parameters()));
    differentiate(given.all, in(given.x), in(of.w), of.numbers(), {in(of_v), in(of_u), in(of_b)},
                  nullptr, in(flat), finds.found);
    return {flat, finds.f, finds.gradient, finds.curvature};
}

Tensor perceptron_langevin(const Tensor &x, double scale, const std::string &activation,
                           const Tensor &frequencies, const Tensors &weights,
                           const Tensors &biases, const Tensor &noise, double precision,
                           const Floats &sizes, const Floats &scales) {
    Given given(x, scale, activation, frequencies, weights, biases);
    int64_t k = sizes.size();
    if (scales.size() != sizes.size())
        throw std::invalid_argument(std::to_string(scales.size()) + " scales do not fit " +
                                    std::to_string(k) + " steps");
    Tensor drawn = given.fitting("noise", noise, given.with(k, given.all.n, given.all.first.dims));
    Tensor ends = given.fresh(given.of_points());
    langevin_chains(given.all, in(given.x), in(drawn), singles(sizes).data(),
                    singles(scales).data(), in(ends), float(precision), k);
    return ends;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> perceptron_leapfrog(
    const Tensor &x, double scale, const std::string &activation, const Tensor &frequencies,
    const Tensors &weights, const Tensors &biases, const Tensor &momentum, const Tensor &gradient,
    const Tensor &eps, double precision, double temperature, int64_t steps) {
    Given given(x, scale, activation, frequencies, weights, biases);
    Shape shape = given.of_points();
    Tensor p = given.fitting("momentum", momentum, shape);
    Tensor slope = given.fitting("gradient", gradient, shape);
    Tensor size = given.fitting("eps", eps, given.of_numbers());
    Tensor f = given.fresh(given.of_numbers());
    // What goes in is written over by what comes out.
    Tensor end = torch::stable::clone(given.x);
    p = torch::stable::clone(p);
    slope = torch::stable::clone(slope);
    leapfrog_chains(given.all, in(end), in(p), in(slope), in(size), in(f), float(precision),
                    float(1.0 / temperature), steps);
    return {end, p, slope, f};
}

}  // namespace

// How many numbers `perceptron` keeps of n points, for whoever has to know without calling it.
extern "C" int64_t perceptron_tape_length(int64_t n, int order, int64_t dims, int64_t n_frequencies,
                                   int64_t depth, const int64_t *sizes) {
    Network net = {dims, n_frequencies, depth, sizes, nullptr, nullptr, nullptr, 0.0f, SILU};
    return numbers_kept(net, n, order);
}

STABLE_TORCH_LIBRARY_IMPL(ebmtrain, CPU, m) {
    m.impl("perceptron", TORCH_BOX(&perceptron));
    m.impl("perceptron_weights", TORCH_BOX(&perceptron_weights));
    m.impl("perceptron_at_once", TORCH_BOX(&perceptron_at_once));
    m.impl("perceptron_langevin", TORCH_BOX(&perceptron_langevin));
    m.impl("perceptron_leapfrog", TORCH_BOX(&perceptron_leapfrog));
}
