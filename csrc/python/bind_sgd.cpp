#include "arguments.h"
#include "arrays.h"
#include "bindings.h"
#include "fedagg/sgd.h"

namespace fedagg::python {
namespace {

Array flat(const py::object& object, const char* name, std::size_t count) {
    const Array array = input_argument(object.ptr(), name, {DType::f32}, 1, "float32 [P]");
    require_size(array, 0, count, "parameters");
    return array;
}

float number(const py::object& object, const char* name) {
    return static_cast<float>(number_argument(object.ptr(), name, 0));
}

void step(const py::object& parameters_P, const py::object& gradient_P, const py::object& velocity_P,
          const py::object& learning_rate, const py::object& momentum, const py::object& weight_decay, bool nesterov) {
    const Array parameters = input_argument(parameters_P.ptr(), "parameters_P", {DType::f32}, 1, "float32 [P]");
    const std::size_t count = parameters.size(0);
    const Array gradient = flat(gradient_P, "gradient_P", count);
    require_writable(parameters);
    require_apart(parameters, gradient);
    Array velocity;
    if (!velocity_P.is_none()) {
        velocity = flat(velocity_P, "velocity_P", count);
        require_writable(velocity);
        require_apart(velocity, parameters);
        require_apart(velocity, gradient);
    }
    const SgdStep options{number(learning_rate, "learning_rate"), number(momentum, "momentum"),
                          number(weight_decay, "weight_decay"), nesterov};
    const MaybeReleaseGil gil(count > small_call_elements);
    sgd_step(static_cast<float*>(parameters.data), static_cast<const float*>(gradient.data),
             static_cast<float*>(velocity.data), count, options);
}

}  // namespace

void bind_sgd(py::module_& module) {
    module.def("sgd_step", &step, py::arg("parameters_P"), py::arg("gradient_P"), py::arg("velocity_P") = py::none(),
               py::kw_only(), py::arg("learning_rate"), py::arg("momentum") = 0.0, py::arg("weight_decay") = 0.0,
               py::arg("nesterov") = false);
}

}  // namespace fedagg::python
