// CPU implementation of the operations that ops.py declares, for float32 tensors. They check shapes
// and types and pass pointers to perceptron.h.
//
// Only torch's stable C++ interface is used.

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "buffer_pool.h"
#include "perceptron.h"

namespace {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;
using Shape = std::vector<int64_t>;
using Floats = std::vector<double>;

constexpr size_t ALIGNMENT = 64;  // bytes, of vectors; torch aligns its tensors to as many

Shape shape_of(const Tensor &t) {
    auto sizes = t.sizes();
    return Shape(sizes.begin(), sizes.end());
}

std::string to_text(const Shape &shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

bool is_float32(const Tensor &t) {
    return t.scalar_type() == torch::headeronly::ScalarType::Float;
}

bool has_shape(const Tensor &t, const Shape &shape) {
    return is_float32(t) && shape_of(t) == shape;
}

Tensor as_contiguous(const Tensor &t) {
    return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

float *pointer(const Tensor &t) { return static_cast<float *>(t.data_ptr()); }

float *pointer(const OptionalTensor &t) { return t ? pointer(*t) : nullptr; }

std::vector<float> to_floats(const Floats &doubles) { return {doubles.begin(), doubles.end()}; }

// The points and network of an operation, checked. Points are (n, dims), or (members, n, dims) for
// several networks; all other tensors then have a leading dimension of members, too.
class Arguments {
    Tensors tensors;  // kept alive while their pointers are in use
    Shape sizes;
    std::vector<const float *> weights, biases;

    const float *data_of(const Tensor &t) {
        tensors.push_back(as_contiguous(t));
        return pointer(tensors.back());
    }

   public:
    Tensor x;
    Shape members;  // empty, or the number of networks
    Networks networks;

    Arguments(const Tensor &points, double scale, const std::string &activation,
              const Tensor &frequencies, const Tensors &w, const Tensors &b)
        : x(as_contiguous(points)) {
        Shape shape = shape_of(x), f = shape_of(frequencies);
        bool valid = (shape.size() == 2 || shape.size() == 3) && is_float32(x) &&
                     f.size() == shape.size() && w.size() == b.size() && !w.empty();
        if (valid) {
            members.assign(shape.begin(), shape.end() - 2);
            int64_t dims = shape.back(), m = f[f.size() - 2];
            valid = has_shape(frequencies, members_shape(m, dims));
            sizes.push_back(dims + 2 * m);
            for (size_t l = 0; valid && l < w.size(); l++) {
                Shape layer_shape = shape_of(w[l]);
                valid = layer_shape.size() == shape.size();
                if (!valid) break;
                int64_t outputs = layer_shape[layer_shape.size() - 2];
                valid = has_shape(w[l], members_shape(outputs, sizes.back())) &&
                        has_shape(b[l], members_shape(outputs));
                sizes.push_back(outputs);
                weights.push_back(data_of(w[l]));
                biases.push_back(data_of(b[l]));
            }
            valid = valid && sizes.back() == 1;
        }
        if (!valid) {
            std::string layers;
            for (const Tensor &t : w) layers += (layers.empty() ? "" : ", ") + to_text(shape_of(t));
            throw std::invalid_argument(
                "points of shape " + to_text(shape) + " do not fit a perceptron of float32 whose "
                "layers are " + layers + ", with frequencies " + to_text(f));
        }
        if (activation != "silu" && activation != "leaky_relu")
            throw std::invalid_argument("no activation " + activation + ": silu, leaky_relu");
        int64_t depth = sizes.size() - 2;
        Network first = {shape.back(), f[f.size() - 2], depth, sizes.data(), weights.data(),
                         biases.data(), data_of(frequencies), float(scale),
                         activation == "silu" ? SILU : LEAKY_RELU};
        networks = {first, members.empty() ? 1 : members[0], shape[shape.size() - 2],
                    int(torch::stable::get_num_threads())};
    }

    Arguments(const Arguments &) = delete;  // it holds pointers to its own fields

    // A shape with the leading dimension of members, if any.
    template <class... Lengths>
    Shape members_shape(Lengths... lengths) const {
        Shape shape = members;
        (shape.push_back(lengths), ...);
        return shape;
    }

    Shape points_shape() const { return members_shape(networks.n, networks.first.dims); }

    Shape values_shape() const { return members_shape(networks.n); }

    Tensor empty(const Shape &shape) const { return torch::stable::new_empty(x, shape); }

    // Memory for the tape of the forward pass.
    Tensor empty_tape(int64_t order) const {
        Shape shape = members_shape(tape_floats(networks.first, networks.n, order));
        size_t bytes = sizeof(float);
        for (int64_t length : shape) bytes *= length;
        if (!bytes) return empty(shape);
        // Never destroyed: a tensor may outlive static objects.
        static BufferPool &pool = *new BufferPool;
        Shape strides = {shape.back(), 1};
        if (members.empty()) strides.erase(strides.begin());
        return torch::stable::from_blob(
            pool.acquire(bytes, ALIGNMENT), shape, strides, x.device(), x.scalar_type(),
            [bytes](void *memory) { pool.release(memory, bytes); });
    }

    // The tensor, contiguous, if it has this shape.
    Tensor checked(const char *name, const Tensor &t, const Shape &shape) const {
        if (!has_shape(t, shape))
            throw std::invalid_argument(std::string(name) + " " + to_text(shape_of(t)) +
                                        (is_float32(t) ? "" : " of another type than float32") +
                                        " does not fit: it has to be " + to_text(shape));
        return as_contiguous(t);
    }

    OptionalTensor checked(const char *name, const OptionalTensor &t, const Shape &shape) const {
        return t ? OptionalTensor(checked(name, *t, shape)) : t;
    }

    int64_t n_parameters() const {
        int64_t sum = 0;
        for (size_t l = 1; l < sizes.size(); l++) sum += sizes[l] * (sizes[l - 1] + 1);
        return sum;
    }
};

// Output tensors up to the order; those of a higher order are empty.
struct OutputTensors {
    Tensor f, gradient, curvature;
    Outputs pointers;

    OutputTensors(const Arguments &given, int64_t order)
        : f(given.empty(given.values_shape())),
          gradient(given.empty(order > 0 ? given.points_shape() : given.members_shape(0))),
          curvature(given.empty(order > 1 ? given.values_shape() : given.members_shape(0))),
          pointers{pointer(f), order > 0 ? pointer(gradient) : nullptr,
                   order > 1 ? pointer(curvature) : nullptr} {}
};

std::tuple<Tensor, Tensor, Tensor, Tensor> perceptron(
    const Tensor &x, double scale, const std::string &activation, const Tensor &frequencies,
    const Tensors &weights, const Tensors &biases, const OptionalTensor &w, int64_t order,
    bool keep) {
    Arguments arguments(x, scale, activation, frequencies, weights, biases);
    if (order < 0 || order > 2 || w.has_value() != (order == 2))
        throw std::invalid_argument(
            "directions w belong to order 2, which is the highest, not to " +
            std::to_string(order));
    OptionalTensor directions = arguments.checked("w", w, arguments.points_shape());
    OutputTensors outputs(arguments, order);
    Tensor tape = keep ? arguments.empty_tape(order) : arguments.empty(arguments.members_shape(0));
    evaluate(arguments.networks, pointer(arguments.x), pointer(directions), outputs.pointers,
             keep ? pointer(tape) : nullptr);
    return {outputs.f, outputs.gradient, outputs.curvature, tape};
}

// Derivatives of a loss, of which u and b are optional, and the directions w of b.
struct DerivativeTensors {
    Tensor v;
    OptionalTensor u, w, b;
    int64_t order;

    DerivativeTensors(const Arguments &given, const Tensor &v_tensor,
                      const OptionalTensor &u_tensor, const OptionalTensor &directions,
                      const OptionalTensor &b_tensor)
        : v(given.checked("v", v_tensor, given.values_shape())),
          u(given.checked("u", u_tensor, given.points_shape())),
          w(given.checked("w", directions, given.points_shape())),
          b(given.checked("b", b_tensor, given.values_shape())),
          order(w ? 2 : u ? 1 : 0) {
        if (w.has_value() != b.has_value() || (w && !u))
            throw std::invalid_argument("w and b belong together, and to u");
    }

    LossDerivatives pointers() const { return {pointer(v), pointer(u), pointer(b)}; }
};

Tensor perceptron_weights(const Tensor &x, double scale, const std::string &activation,
                          const Tensor &frequencies, const Tensors &weights, const Tensors &biases,
                          const Tensor &v, const OptionalTensor &u, const OptionalTensor &w,
                          const OptionalTensor &b, const Tensor &saved) {
    Arguments arguments(x, scale, activation, frequencies, weights, biases);
    DerivativeTensors derivatives(arguments, v, u, w, b);
    const Networks &networks = arguments.networks;
    int64_t n_floats = tape_floats(networks.first, networks.n, derivatives.order);
    Tensor tape = arguments.checked("tape", saved, arguments.members_shape(n_floats));
    if (reinterpret_cast<size_t>(tape.data_ptr()) % ALIGNMENT) tape = torch::stable::clone(tape);
    Tensor flat = arguments.empty(arguments.members_shape(arguments.n_parameters()));
    parameter_vjp(networks, pointer(arguments.x), pointer(derivatives.w), derivatives.pointers(),
                  {}, pointer(tape), pointer(flat), {});
    return flat;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> perceptron_at_once(
    const Tensor &x, double scale, const std::string &activation, const Tensor &frequencies,
    const Tensors &weights, const Tensors &biases, const Tensor &v, const OptionalTensor &u,
    const OptionalTensor &w, const OptionalTensor &b, const OptionalTensor &slope_of_v,
    const OptionalTensor &slope_of_u, const OptionalTensor &slope_of_b) {
    Arguments arguments(x, scale, activation, frequencies, weights, biases);
    DerivativeTensors derivatives(arguments, v, u, w, b);
    if ((slope_of_u && !u) || (slope_of_b && !b))
        throw std::invalid_argument("slopes belong to the u and b that have them");
    OptionalTensor v_slope = arguments.checked("slope_of_v", slope_of_v, arguments.values_shape());
    OptionalTensor u_slope = arguments.checked("slope_of_u", slope_of_u, arguments.points_shape());
    OptionalTensor b_slope = arguments.checked("slope_of_b", slope_of_b, arguments.values_shape());
    OutputTensors outputs(arguments, derivatives.order);
    Tensor flat = arguments.empty(arguments.members_shape(arguments.n_parameters()));
    LossDerivatives slopes = {pointer(v_slope), pointer(u_slope), pointer(b_slope)};
    parameter_vjp(arguments.networks, pointer(arguments.x), pointer(derivatives.w),
                  derivatives.pointers(), slopes, nullptr, pointer(flat), outputs.pointers);
    return {flat, outputs.f, outputs.gradient, outputs.curvature};
}

Tensor perceptron_langevin(const Tensor &x, double scale, const std::string &activation,
                           const Tensor &frequencies, const Tensors &weights,
                           const Tensors &biases, const Tensor &noise, double precision,
                           const Floats &sizes, const Floats &scales) {
    Arguments arguments(x, scale, activation, frequencies, weights, biases);
    int64_t k = sizes.size();
    if (scales.size() != sizes.size())
        throw std::invalid_argument(std::to_string(scales.size()) + " scales do not fit " +
                                    std::to_string(k) + " steps");
    const Networks &networks = arguments.networks;
    Shape noise_shape = arguments.members_shape(k, networks.n, networks.first.dims);
    Tensor checked_noise = arguments.checked("noise", noise, noise_shape);
    Tensor end = arguments.empty(arguments.points_shape());
    langevin_chains(networks, pointer(arguments.x), pointer(checked_noise), to_floats(sizes).data(),
                    to_floats(scales).data(), pointer(end), float(precision), k);
    return end;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> perceptron_leapfrog(
    const Tensor &x, double scale, const std::string &activation, const Tensor &frequencies,
    const Tensors &weights, const Tensors &biases, const Tensor &momentum, const Tensor &gradient,
    const Tensor &eps, double precision, double temperature, int64_t steps) {
    Arguments arguments(x, scale, activation, frequencies, weights, biases);
    Shape shape = arguments.points_shape();
    Tensor p = arguments.checked("momentum", momentum, shape);
    Tensor g = arguments.checked("gradient", gradient, shape);
    Tensor size = arguments.checked("eps", eps, arguments.values_shape());
    Tensor f = arguments.empty(arguments.values_shape());
    // Copies, since the outputs overwrite the inputs.
    Tensor end = torch::stable::clone(arguments.x);
    p = torch::stable::clone(p);
    g = torch::stable::clone(g);
    leapfrog_chains(arguments.networks, pointer(end), pointer(p), pointer(g), pointer(size),
                    pointer(f), float(precision), float(1.0 / temperature), steps);
    return {end, p, g, f};
}

}  // namespace

// Number of floats in the tape of n points, for the fake implementation of `perceptron`.
extern "C" int64_t perceptron_tape_length(int64_t n, int order, int64_t dims, int64_t n_frequencies,
                                          int64_t depth, const int64_t *sizes) {
    Network net = {dims, n_frequencies, depth, sizes, nullptr, nullptr, nullptr, 0.0f, SILU};
    return tape_floats(net, n, order);
}

STABLE_TORCH_LIBRARY_IMPL(ebmtrain, CPU, m) {
    m.impl("perceptron", TORCH_BOX(&perceptron));
    m.impl("perceptron_weights", TORCH_BOX(&perceptron_weights));
    m.impl("perceptron_at_once", TORCH_BOX(&perceptron_at_once));
    m.impl("perceptron_langevin", TORCH_BOX(&perceptron_langevin));
    m.impl("perceptron_leapfrog", TORCH_BOX(&perceptron_leapfrog));
}
